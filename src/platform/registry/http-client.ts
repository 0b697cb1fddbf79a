// GET over HTTP/1.1, bounded in every way: time to the answer, redirects, size and pace of the body. Credentials go to the origin that they
// are for and nowhere else, and never from https to http. It retries nothing but a kept connection that the peer had closed meanwhile.
import { type ClientRequest, type IncomingMessage, Agent as PlainAgent, request as plainRequest } from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { LonglineError } from '../../core/errors.ts';

/** Where a registry is, and with which identity it is asked. */
export interface RegistryAccess {
  /** Without a slash at its end. */
  readonly baseUrl: string;
  /** Sent to this origin only, for example `authorization`. */
  readonly headers: Readonly<Record<string, string>>;
  /** PEM. Without `ca` the authorities of the system are trusted; the certificate is shown to this origin only. */
  readonly tls: {
    readonly ca?: string | undefined;
    readonly cert?: string | undefined;
    readonly key?: string | undefined;
  };
}

/** Milliseconds and bytes. */
export interface HttpLimits {
  /** From the request to the head of the answer, with all redirects. */
  readonly answerMs: number;
  /** Between two pieces of a body. */
  readonly stallMs: number;
  readonly maxRedirects: number;
}

/** The head of an answer, whose body is read or dropped by whoever asked. */
export interface HttpAnswer {
  readonly status: number;
  readonly url: URL;
  header(name: string): string | undefined;
  /** Pieces as they come. Throws `unavailable` if the body is cut, `late` if it stalls. */
  body(): AsyncIterable<Uint8Array>;
  /** Lets go of the connection. Does nothing once the body was read. */
  drop(): void;
}

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** An idle connection is of no use until the next poll. */
const POOL = { keepAlive: true, maxSockets: 4, maxFreeSockets: 1, timeout: 10_000 } as const;

/** One per registry; dispose it to close its connections. */
export class HttpClient implements Disposable {
  readonly #limits: HttpLimits;
  readonly #plain = new PlainAgent(POOL);
  readonly #secure = new SecureAgent({ ...POOL, ALPNProtocols: ['http/1.1'] });

  constructor(limits: HttpLimits) {
    this.#limits = limits;
  }

  /** Asks for a path below the base. Throws `unavailable` or `late`. */
  async get(
    access: RegistryAccess,
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    signal.throwIfAborted();
    const origin = new URL(access.baseUrl).origin;
    let url = new URL(`${access.baseUrl}/${path}`);
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(this.#late(url)), this.#limits.answerMs);
    const onAbort = () => limit.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for (let hops = 0; ; hops += 1) {
        const answer = await this.#ask(access, url, url.origin === origin, headers, limit.signal);
        const { statusCode = 0, headers: head } = answer;
        if (!REDIRECTS.has(statusCode) || head.location === undefined) return this.#answer(answer, url, signal);
        answer.destroy();
        if (hops >= this.#limits.maxRedirects) {
          throw new LonglineError(
            'unavailable',
            `${place(url)} redirects more than ${this.#limits.maxRedirects} times`,
          );
        }
        url = redirected(url, head.location);
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }

  [Symbol.dispose](): void {
    this.#plain.destroy();
    this.#secure.destroy();
  }

  async #ask(
    access: RegistryAccess,
    url: URL,
    own: boolean,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    for (let tries = 0; ; tries += 1) {
      const request = this.#open(access, url, own, headers);
      try {
        return await answered(request, url, signal);
      } catch (error) {
        if (tries > 0 || !request.reusedSocket || signal.aborted) throw error;
      }
    }
  }

  #open(
    { headers: ownHeaders, tls }: RegistryAccess,
    url: URL,
    own: boolean,
    headers: Readonly<Record<string, string>>,
  ) {
    const all = { accept: '*/*', 'accept-encoding': 'identity', ...headers, ...(own ? ownHeaders : {}) };
    if (url.protocol === 'http:') return plainRequest(url, { agent: this.#plain, headers: all });
    const { ca, cert, key } = tls;
    return secureRequest(url, {
      agent: this.#secure,
      headers: all,
      ...(ca === undefined ? {} : { ca }),
      ...(own && cert !== undefined ? { cert, key } : {}),
    });
  }

  #answer(answer: IncomingMessage, url: URL, signal: AbortSignal): HttpAnswer {
    return {
      status: answer.statusCode ?? 0,
      url,
      header: (name) => {
        const value = answer.headers[name];
        return typeof value === 'string' ? value : undefined;
      },
      body: () => readBody(answer, url, this.#limits.stallMs, signal),
      drop: () => answer.destroy(),
    };
  }

  #late(url: URL): LonglineError {
    return new LonglineError('late', `${place(url)} gave no answer within ${this.#limits.answerMs} ms`);
  }
}

function answered(request: ClientRequest, url: URL, signal: AbortSignal): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const onAbort = () => {
    reject(signal.reason);
    request.destroy();
  };
  request.once('response', resolve);
  request.on('error', (error) => reject(unreachable(url, error)));
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  else request.end();
  return promise.finally(() => signal.removeEventListener('abort', onAbort));
}

async function* readBody(
  answer: IncomingMessage,
  url: URL,
  stallMs: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const stop = (reason: unknown) => answer.destroy(reason as Error);
  const onAbort = () => stop(signal.reason);
  const stall = setTimeout(
    () => stop(new LonglineError('late', `${place(url)} sent nothing for ${stallMs} ms`)),
    stallMs,
  );
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    for await (const piece of answer) {
      stall.refresh();
      yield piece as Uint8Array;
      stall.refresh();
    }
    if (!answer.complete) throw new Error('the connection was closed before the end');
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof LonglineError ? error : unreachable(url, error);
  } finally {
    clearTimeout(stall);
    signal.removeEventListener('abort', onAbort);
    if (!answer.complete) answer.destroy();
  }
}

function redirected(from: URL, location: string): URL {
  const to = URL.parse(location, from);
  if (to === null || (to.protocol !== 'https:' && to.protocol !== 'http:')) {
    const shown = JSON.stringify(location.slice(0, 200));
    throw new LonglineError('unavailable', `${place(from)} redirects to ${shown}, which is no http(s) URL`);
  }
  if (from.protocol === 'https:' && to.protocol === 'http:') {
    throw new LonglineError('unavailable', `${place(from)} redirects to ${place(to)}, which is not encrypted`);
  }
  return to;
}

function unreachable(url: URL, cause: unknown): LonglineError {
  if (cause instanceof LonglineError) return cause;
  const { message, code } = cause as NodeJS.ErrnoException;
  return new LonglineError('unavailable', `${place(url)}: ${message || code || 'no connection'}`, { cause });
}

/** A URL for messages: what may be secret in it is left out. */
export function place({ origin, pathname }: URL): string {
  return `${origin}${pathname}`.slice(0, 300);
}
