// Reads from HashiCorp Vault by its documented HTTP API (v1), with a token or as an AppRole. Knows how to ask and nothing of what for.
// Everything is bounded: time, bodies, tries. Redirects are not followed, since the token would go with them. It fails as `late`,
// `unavailable` (down, sealed, or an answer that is none), `identity` (token or role refused) or `not_found`; no message holds a token.
import { type VaultAnswer, VaultHttp, type VaultHttpOptions } from './vault-http.ts';

/** How to get in. */
export type VaultLogin =
  | { readonly kind: 'token'; readonly token: string }
  /** `secretId` undefined for a role that is bound otherwise. `mount`: "approle". */
  | {
      readonly kind: 'approle';
      readonly roleId: string;
      readonly secretId: string | undefined;
      readonly mount: string;
    };

/** What a client needs. */
export interface VaultClientOptions extends VaultHttpOptions {
  readonly login: VaultLogin;
  /** Monotonic milliseconds. */
  readonly monotonic: () => number;
}

/** A token, and how long it is good for. */
interface Session {
  readonly token: string;
  /** Monotonic milliseconds; undefined for ever. */
  readonly renewAt: number | undefined;
  readonly endsAt: number | undefined;
}

/** A token is renewed once so much of its time has passed. */
const RENEW_AFTER = 2 / 3;

/** One Vault. Holds no connection between requests. Calls must not overlap. */
export class VaultClient {
  readonly #options: VaultClientOptions;
  readonly #http: VaultHttp;
  #session: Session | undefined;

  constructor(options: VaultClientOptions) {
    this.#options = options;
    this.#http = new VaultHttp(options);
  }

  /** The field `data` of what is at a path below /v1/. */
  async read(path: string, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
    const before = this.#session;
    let answer = await this.#get(path, signal);
    if (answer.status === 403 && before !== undefined && this.#options.login.kind === 'approle') {
      // The token may have been revoked: a new one tells.
      this.#session = undefined;
      answer = await this.#get(path, signal);
    }
    const { data } = succeeded(answer, path);
    if (typeof data !== 'object' || data === null) throw answer.nonsense('there is no field data in it');
    return data as Readonly<Record<string, unknown>>;
  }

  async #get(path: string, signal: AbortSignal): Promise<VaultAnswer> {
    const { token } = await this.#liveSession(signal);
    return await this.#http.send({ method: 'GET', path, token }, signal);
  }

  async #liveSession(signal: AbortSignal): Promise<Session> {
    const now = this.#options.monotonic();
    const session = this.#session;
    if (session === undefined || (session.endsAt !== undefined && now >= session.endsAt)) {
      this.#session = await this.#begin(signal);
    } else if (session.renewAt !== undefined && now >= session.renewAt) {
      this.#session = await this.#renew(session, signal);
    }
    return this.#session!;
  }

  async #begin(signal: AbortSignal): Promise<Session> {
    const { login } = this.#options;
    if (login.kind === 'token') return await this.#inspect(login.token, signal);
    const { roleId, secretId, mount } = login;
    const path = `auth/${mount}/login`;
    const body = { role_id: roleId, ...(secretId === undefined ? {} : { secret_id: secretId }) };
    const answer = await this.#http.send({ method: 'POST', path, body }, signal);
    if (answer.status === 400) throw answer.refused('identity', 'the role id or secret id is wrong, or used up');
    return this.#sessionOf(answer, path);
  }

  /** What a given token is good for. One that may not look at itself is taken as it is, and ends when it does. */
  async #inspect(token: string, signal: AbortSignal): Promise<Session> {
    const path = 'auth/token/lookup-self';
    const answer = await this.#http.send({ method: 'GET', path, token }, signal);
    if (answer.status === 403) return { token, renewAt: undefined, endsAt: undefined };
    const data = succeeded(answer, path)['data'] as { readonly ttl?: unknown; readonly renewable?: unknown } | null;
    const ttl = Number(data?.ttl ?? 0);
    if (!(ttl > 0) || data?.renewable !== true) return { token, renewAt: undefined, endsAt: undefined };
    return { ...this.#lasting(token, ttl, true), endsAt: undefined };
  }

  async #renew(session: Session, signal: AbortSignal): Promise<Session> {
    const path = 'auth/token/renew-self';
    const answer = await this.#http.send({ method: 'POST', path, token: session.token, body: {} }, signal);
    if (answer.status < 400) return this.#sessionOf(answer, path, session.token);
    if (answer.status >= 500) return session;
    // Past its longest time, or not to be renewed: a role logs in anew, a given token is used for as long as it is taken.
    if (this.#options.login.kind === 'approle') return await this.#begin(signal);
    return { token: session.token, renewAt: undefined, endsAt: undefined };
  }

  #sessionOf(answer: VaultAnswer, path: string, renewed?: string): Session {
    const auth = succeeded(answer, path)['auth'] as {
      readonly client_token?: unknown;
      readonly lease_duration?: unknown;
      readonly renewable?: unknown;
    } | null;
    const token = renewed ?? auth?.client_token;
    const seconds = auth?.lease_duration;
    if (typeof token !== 'string' || token === '' || typeof seconds !== 'number' || !(seconds >= 0)) {
      throw answer.nonsense('there is no token in it');
    }
    return this.#lasting(token, seconds, auth?.renewable === true);
  }

  #lasting(token: string, seconds: number, renewable: boolean): Session {
    // Zero is for tokens without an end.
    if (seconds === 0) return { token, renewAt: undefined, endsAt: undefined };
    const now = this.#options.monotonic();
    return {
      token,
      renewAt: renewable ? now + seconds * 1000 * RENEW_AFTER : undefined,
      endsAt: now + seconds * 1000,
    };
  }
}

/** The body of an answer that is one; else what is wrong, with Vault's own words. */
function succeeded(answer: VaultAnswer, path: string): Readonly<Record<string, unknown>> {
  const { status } = answer;
  if (status === 200) return answer.json();
  if (status === 403) throw answer.refused('identity', `it may not read ${path}: a policy has to allow it`);
  if (status === 404 && answer.isVaults) throw answer.refused('not_found', `there is nothing at ${path}`);
  if (status === 503) throw answer.refused('unavailable', 'it is sealed, or being maintained');
  if (status >= 300 && status < 400) {
    throw answer.refused('unavailable', `it redirects to ${answer.location}, which is not followed; name that address`);
  }
  throw answer.refused('unavailable', 'it can not answer');
}
