// The API server of a Kubernetes cluster as far as a Lease needs it: one request and its answer, bounded in time and size, as
// the service account whose token lies in a file. Token and CA are read for each request, since both are changed under a
// running pod. node:https and no client library: @kubernetes/client-node takes a second and some 80 MiB to load, as much
// as a whole idle agent may have. Redirects are answers like others. It knows nothing of Leases.
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { LonglineError } from '../../core/errors.ts';
import { ApiAnswer } from './api-answer.ts';

/** Where an API server is, and who asks. */
export interface ApiServerOptions {
  /** Name or address, without brackets. */
  readonly host: string;
  readonly port: number;
  /** Holds a bearer token. */
  readonly tokenFile: string;
  /** PEM of the authorities to trust for the server. */
  readonly caFile: string;
  /** For one request, from beginning to end. */
  readonly timeoutMs: number;
}

/** What is asked. */
export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** Begins with a slash; parts are escaped. */
  readonly path: string;
  readonly body?: unknown;
}

const MAX_BODY_BYTES = 1024 * 1024;
/** A connection that idles longer is closed. */
const IDLE_MS = 60_000;

/** Keeps a connection while it is used. Dispose to close it. */
export class ApiServer implements Disposable {
  /** For messages: host and port. */
  readonly where: string;
  readonly #options: ApiServerOptions;
  readonly #connections = new Agent({ keepAlive: true, maxFreeSockets: 1, timeout: IDLE_MS });

  constructor(options: ApiServerOptions) {
    const { host, port } = options;
    this.#options = options;
    this.where = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  }

  /** Throws `unavailable` if nothing whole comes back, `late` if it takes too long, `wrong_state` without token or CA, and the signal's reason. */
  async send(asked: ApiRequest, signal: AbortSignal): Promise<ApiAnswer> {
    signal.throwIfAborted();
    const { timeoutMs } = this.#options;
    const stop = new AbortController();
    const late = `the Kubernetes API server at ${this.where} gave no answer within ${timeoutMs} ms`;
    const timer = setTimeout(() => stop.abort(new LonglineError('late', late)), timeoutMs);
    const onAbort = () => stop.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const [token, ca] = await Promise.all([this.#token(), this.#file('ca_file', this.#options.caFile)]);
      const answer = await this.#open(asked, token, ca, stop.signal);
      return new ApiAnswer(this.where, answer.statusCode ?? 0, answer.headers, await this.#read(answer));
    } catch (error) {
      if (stop.signal.aborted) throw stop.signal.reason;
      if (error instanceof LonglineError) throw error;
      const text = `the Kubernetes API server at ${this.where} can't be reached: ${messageOf(error)}`;
      throw new LonglineError('unavailable', text, { cause: error });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }

  [Symbol.dispose](): void {
    this.#connections.destroy();
  }

  #open(asked: ApiRequest, token: string, ca: string, signal: AbortSignal): Promise<IncomingMessage> {
    const { host, port } = this.#options;
    const payload = asked.body === undefined ? undefined : JSON.stringify(asked.body);
    const headers = {
      accept: 'application/json',
      authorization: `Bearer ${token}`,
      'user-agent': 'longline-agent',
      ...(payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }),
    };
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const { method, path } = asked;
    // A connection is used again only with the same CA.
    const sent = request({ host, port, method, path, headers, ca, signal, agent: this.#connections }, resolve);
    sent.on('error', reject);
    sent.end(payload);
    return promise;
  }

  async #read(answer: IncomingMessage): Promise<string> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size <= MAX_BODY_BYTES) continue;
      answer.destroy();
      const text = `the Kubernetes API server at ${this.where} gave an answer of more than ${MAX_BODY_BYTES} bytes`;
      throw new LonglineError('unavailable', text);
    }
    return Buffer.concat(chunks).toString('utf8');
  }

  async #token(): Promise<string> {
    const { tokenFile } = this.#options;
    const token = (await this.#file('token_file', tokenFile)).trim();
    if (/^[\x21-\x7e]{1,65536}$/.test(token)) return token;
    const text = `ha.kubernetes_token_file: ${tokenFile} holds no token; one line of ASCII without blanks would be right`;
    throw new LonglineError('wrong_state', text);
  }

  async #file(setting: string, path: string): Promise<string> {
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      const text = `ha.kubernetes_${setting} can't be read: ${(error as Error).message}; a pod needs automountServiceAccountToken`;
      throw new LonglineError('wrong_state', text, { cause: error });
    }
  }
}

function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  return error instanceof Error && error.message !== '' ? error.message : String(error);
}
