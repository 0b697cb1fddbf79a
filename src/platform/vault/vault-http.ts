// One request to Vault and its answer, bounded in time and size. Redirects are answers like others.
import { type IncomingMessage, request as plainRequest } from 'node:http';
import { request as secureRequest } from 'node:https';
import { LonglineError, type Reason } from '../../core/errors.ts';

/** Where Vault is. */
export interface VaultHttpOptions {
  /** "https://vault.example.net:8200", without a slash at its end. */
  readonly url: string;
  readonly namespace: string | undefined;
  /** PEM; undefined for the authorities of the system. */
  readonly ca: string | undefined;
  /** For one request, from beginning to end. */
  readonly timeoutMs: number;
}

/** What is asked. */
export interface VaultRequest {
  readonly method: 'GET' | 'POST';
  /** Below /v1/. */
  readonly path: string;
  readonly token?: string;
  readonly body?: Readonly<Record<string, unknown>>;
}

const MAX_BODY_BYTES = 1024 * 1024;

/** An answer, whole. */
export class VaultAnswer {
  readonly status: number;
  /** Where it redirects to, without query; empty for nowhere. */
  readonly location: string;
  readonly #url: string;
  readonly #body: Readonly<Record<string, unknown>> | undefined;

  constructor(url: string, status: number, location: string, body: Readonly<Record<string, unknown>> | undefined) {
    this.#url = url;
    this.status = status;
    this.location = location;
    this.#body = body;
  }

  /** True for an error in Vault's own form, and not that of something before it. */
  get isVaults(): boolean {
    return Array.isArray(this.#body?.['errors']) || this.#body?.['data'] !== undefined;
  }

  json(): Readonly<Record<string, unknown>> {
    if (this.#body === undefined) throw this.nonsense('it is no JSON object');
    return this.#body;
  }

  /** An error with what Vault says itself. */
  refused(reason: Reason, why: string): LonglineError {
    const errors = this.#body?.['errors'];
    const said = Array.isArray(errors) ? errors.filter((one) => typeof one === 'string').join('; ') : '';
    const quoted = said === '' ? '' : `: ${JSON.stringify(said.trim().slice(0, 300))}`;
    return new LonglineError(reason, `Vault at ${this.#url} answered ${this.status}: ${why}${quoted}`);
  }

  /** An error for an answer that Vault doesn't give. */
  nonsense(why: string): LonglineError {
    return new LonglineError('unavailable', `Vault at ${this.#url} gave an answer that is none of Vault's: ${why}`);
  }
}

/** Sends requests, each over a connection of its own. */
export class VaultHttp {
  readonly #options: VaultHttpOptions;

  constructor(options: VaultHttpOptions) {
    this.#options = options;
  }

  /** Throws `unavailable` if nothing whole comes back, `late` if it takes too long, and the signal's reason. */
  async send(request: VaultRequest, signal: AbortSignal): Promise<VaultAnswer> {
    signal.throwIfAborted();
    const { url, timeoutMs } = this.#options;
    const stop = new AbortController();
    const late = new LonglineError('late', `Vault at ${url} gave no answer within ${timeoutMs} ms`);
    const timer = setTimeout(() => stop.abort(late), timeoutMs);
    const onAbort = () => stop.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const answer = await this.#open(request, stop.signal);
      const { statusCode = 0, headers } = answer;
      return new VaultAnswer(url, statusCode, shownLocation(headers.location), parse(await this.#readBody(answer)));
    } catch (error) {
      if (stop.signal.aborted) throw stop.signal.reason;
      if (error instanceof LonglineError) throw error;
      throw new LonglineError('unavailable', `Vault at ${url} can't be reached: ${(error as Error).message}`, {
        cause: error,
      });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }

  #open({ method, path, token, body }: VaultRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const { url, namespace, ca } = this.#options;
    const target = new URL(`${url}/v1/${path.split('/').map(encodeURIComponent).join('/')}`);
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const headers = {
      accept: 'application/json',
      'x-vault-request': 'true',
      ...(token === undefined ? {} : { 'x-vault-token': token }),
      ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }),
      ...(payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }),
    };
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const options = { method, headers, signal, agent: false as const };
    const sent =
      target.protocol === 'http:'
        ? plainRequest(target, options, resolve)
        : secureRequest(target, { ...options, ...(ca === undefined ? {} : { ca }) }, resolve);
    sent.on('error', reject);
    sent.end(payload);
    return promise;
  }

  async #readBody(answer: IncomingMessage): Promise<string> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size <= MAX_BODY_BYTES) continue;
      answer.destroy();
      throw new LonglineError(
        'unavailable',
        `Vault at ${this.#options.url} gave an answer of more than ${MAX_BODY_BYTES} bytes`,
      );
    }
    return Buffer.concat(chunks).toString('utf8');
  }
}

function parse(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

function shownLocation(location: string | undefined): string {
  return location === undefined ? 'nowhere' : location.split('?')[0]!.slice(0, 200);
}
