// API tokens: made, checked, and kept track of. Whoever holds one may do what its role allows, until it ends.
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import type { ApiTokenRecord, ApiTokenRepository, Role } from './ports.ts';
import { apiSecretOf, formatApiToken, hashSecret, newSecret, sameHash } from './secrets.ts';

const USE_TIME_GRAIN_MS = 60_000;

/** Who calls the public API. */
export interface Caller {
  readonly tokenId: string;
  /** Name of the token; stands as creator in what the caller makes. */
  readonly name: string;
  readonly role: Role;
}

/** A token as it is shown once, with what is stored of it. */
export interface NewApiToken {
  readonly token: string;
  readonly record: ApiTokenRecord;
}

/** Makes and checks API tokens. */
export class ApiTokens {
  readonly #repository: ApiTokenRepository;
  readonly #clock: Clock;

  constructor(repository: ApiTokenRepository, clock: Clock) {
    this.#repository = repository;
    this.#clock = clock;
  }

  /** Makes a token. `ttlMs` undefined is for ever. */
  async create(name: string, role: Role, ttlMs: number | undefined): Promise<NewApiToken> {
    const secret = newSecret();
    const nowMs = this.#clock.now();
    const record: ApiTokenRecord = {
      id: newId(nowMs),
      name,
      role,
      secretHash: hashSecret(secret),
      createdAtMs: nowMs,
      expiresAtMs: ttlMs === undefined ? undefined : nowMs + ttlMs,
      usedAtMs: undefined,
      revoked: false,
    };
    await this.#repository.insert(record);
    return { token: formatApiToken(secret), record };
  }

  /** The caller named by an authorization header. Throws `identity` if it names none, or one that has ended. */
  async authenticate(authorization: string | null): Promise<Caller> {
    return await this.recheck(hashSecret(apiSecretOf(authorization)));
  }

  /** The caller whose token has this hash, as `authenticate`: for what goes on long after the token was shown. */
  async recheck(hash: Uint8Array): Promise<Caller> {
    const record = await this.#repository.findByHash(hash);
    if (record === undefined || !sameHash(record.secretHash, hash)) {
      throw new LonglineError('identity', 'authorization: the API token is unknown to this controller');
    }
    if (record.revoked) throw new LonglineError('identity', `authorization: API token "${record.name}" was revoked`);
    const nowMs = this.#clock.now();
    if (record.expiresAtMs !== undefined && record.expiresAtMs <= nowMs) {
      const ended = new Date(record.expiresAtMs).toISOString();
      throw new LonglineError('identity', `authorization: API token "${record.name}" ended at ${ended}`);
    }
    const usedAtMs = nowMs - (nowMs % USE_TIME_GRAIN_MS);
    if ((record.usedAtMs ?? 0) < usedAtMs) await this.#repository.touch(record.id, usedAtMs);
    return { tokenId: record.id, name: record.name, role: record.role };
  }

  /** True if a token, as text, is stored here, be it revoked or not. */
  async isKnown(token: string): Promise<boolean> {
    return (await this.#repository.findByHash(hashSecret(apiSecretOf(`Bearer ${token}`)))) !== undefined;
  }
}
