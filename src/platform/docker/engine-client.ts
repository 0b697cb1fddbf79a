// HTTP to a container engine: API version, time limits, signals, error mapping. Requests go through docker-modem; the
// hijacked upgrade of attach is made by hand, because docker-modem writes a body that the daemon may take for input.
// No connection is kept alive: a socket costs microseconds, and a pool would starve under attach and wait, or hand out
// sockets of a daemon that has gone. Must not know containers. Every failure leaves as a LonglineError.

import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { inspect } from 'node:util';
import Docker from 'dockerode';
import { LonglineError } from '../../core/errors.ts';
import { CallScope } from './call-scope.ts';
import { describeAddress, type EngineAddress } from './engine-address.ts';
import { connectionError, type EngineRefusal, refusalError } from './engine-errors.ts';

/** One request. `path` starts after the API version. */
export interface EngineRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: object;
  /** Value of X-Registry-Auth. */
  readonly registryAuth?: string;
  /** For error messages: "create container job-1". */
  readonly what: string;
  /** Until the answer has begun, for `open`; until it is whole, otherwise. Undefined: no limit but the signal. */
  readonly limitMs: number | undefined;
}

/** An answer whose body is still arriving. The owner must destroy `body` unless it reads it to the end. */
export interface OpenResponse {
  readonly body: IncomingMessage;
  /** Why the body broke off, as a LonglineError. */
  explain(thrown: unknown): LonglineError;
}

/** Newest API version that this adapter was written against. */
const NEWEST_API = [1, 44] as const;
const OLDEST_API = [1, 40] as const;
const BODY_LIMIT_BYTES = 32 * 1024 * 1024;
const SUCCESS = { 200: true, 201: true, 204: true, 304: true } as const;

interface RawVersion {
  readonly ApiVersion: string;
  readonly MinAPIVersion?: string;
  readonly Version: string;
  readonly Components?: readonly { readonly Name: string }[];
}

/** What the engine said about itself when its API version was settled. */
export interface EngineVersion {
  /** "v1.41". */
  readonly api: string;
  readonly kind: 'docker' | 'podman';
  readonly version: string;
}

/** Sends requests to one engine. Dispose ends those under way. */
export class EngineClient implements Disposable {
  readonly where: string;
  readonly #address: EngineAddress;
  readonly #agent: Agent;
  readonly #modem: Docker['modem'];
  readonly #limitMs: number;
  readonly #ended = new AbortController();
  #version: Promise<EngineVersion> | undefined;

  /** @param limitMs time limit of a request that has no other. */
  constructor(address: EngineAddress, limitMs: number) {
    this.#address = address;
    this.#limitMs = limitMs;
    this.where = describeAddress(address);
    const tls = address.kind === 'tcp' ? address.tls : undefined;
    this.#agent = tls === undefined ? new Agent({ keepAlive: false }) : new TlsAgent({ ...tls, keepAlive: false });
    hideFromInspection(this.#agent);
    // `host` is always given: docker-modem would take it from DOCKER_HOST otherwise.
    const options = {
      agent: this.#agent,
      ...(address.kind === 'unix'
        ? { host: undefined, socketPath: address.socketPath, protocol: 'http' as const }
        : {
            host: address.host,
            port: address.port,
            protocol: tls === undefined ? ('http' as const) : ('https' as const),
            ...tls,
          }),
    };
    this.#modem = new Docker(options).modem;
  }

  /** The time limit of ordinary requests. */
  get limitMs(): number {
    return this.#limitMs;
  }

  /** Settles the API version once per connection to a daemon; asks again after the daemon was lost. */
  async version(signal?: AbortSignal): Promise<EngineVersion> {
    this.#version ??= this.#negotiate().catch((error: unknown) => {
      this.#version = undefined;
      throw error;
    });
    return await this.#bounded('version', undefined, signal, () => this.#version!);
  }

  /** A whole answer, parsed; undefined for an empty one. */
  async json<T>(request: EngineRequest, signal?: AbortSignal): Promise<T | undefined> {
    const { api } = await this.version(signal);
    return await this.#bounded(request.what, request.limitMs, signal, async (bounds) => {
      const body = await readWhole(await this.#dial(request, api, bounds));
      return body === '' ? undefined : (JSON.parse(body) as T);
    });
  }

  /** A whole answer to a GET, parsed; undefined if the engine says that there is no such thing. */
  async found<T>(what: string, path: string, signal?: AbortSignal): Promise<T | undefined> {
    try {
      return await this.json<T>({ method: 'GET', path, what, limitMs: this.#limitMs }, signal);
    } catch (error) {
      if (error instanceof RefusedError && error.reason === 'not_found') return undefined;
      throw error;
    }
  }

  /** An answer that is read as it comes. `signal` stays in force until the body closes. */
  async open(request: EngineRequest, signal?: AbortSignal): Promise<OpenResponse> {
    const { api } = await this.version(signal);
    const scope = new CallScope(request.what, request.limitMs, [signal, this.#ended.signal]);
    try {
      const body = await this.#dial(request, api, scope.signal);
      scope.begun();
      body.once('close', () => scope[Symbol.dispose]());
      // Who stopped reading no longer hears of errors; unheard they would end the process.
      body.on('error', () => undefined);
      return { body, explain: (thrown) => scope.cause ?? this.#explain(request.what, thrown) };
    } catch (error) {
      scope[Symbol.dispose]();
      throw scope.cause ?? this.#explain(request.what, error);
    }
  }

  /** Asks for a raw connection; the answer's first bytes are in the socket. The caller owns the socket. */
  async upgrade(request: Omit<EngineRequest, 'method'>, signal?: AbortSignal): Promise<Socket> {
    const { api } = await this.version(signal);
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    return await this.#bounded(request.what, request.limitMs, signal, async (bounds) => {
      const { promise, resolve, reject } = Promise.withResolvers<Socket>();
      const post = this.nodeRequest('POST', `/${api}${request.path}?${new URLSearchParams(request.query)}`, {
        Connection: 'Upgrade',
        Upgrade: 'tcp',
        ...(body === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': String(body.length) }),
      });
      const onAbort = () => post.destroy(bounds.reason as Error);
      bounds.addEventListener('abort', onAbort, { once: true });
      post.once('upgrade', (_response, socket: Socket, head: Buffer) => {
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      });
      post.once('response', (response: IncomingMessage) => {
        readWhole(response)
          .then((text) => reject(refusalError(request.what, refusal(response.statusCode ?? 0, text))))
          .catch(reject);
      });
      post.on('error', reject);
      post.end(body);
      const socket = await promise.finally(() => bounds.removeEventListener('abort', onAbort));
      // Nobody waits for it any more.
      if (bounds.aborted) socket.destroy();
      return socket;
    });
  }

  /** Succeeds if the daemon answers. Says nothing about what it can do. */
  async ping(signal?: AbortSignal): Promise<void> {
    await this.json({ method: 'GET', path: '/version', what: 'ping', limitMs: this.#limitMs }, signal);
  }

  /** A request outside all limits, on a connection of its own. The caller owns it and hears its errors. */
  nodeRequest(method: string, path: string, headers: Readonly<Record<string, string>>): ClientRequest {
    const address = this.#address;
    const options = { method, path, headers, agent: this.#agent };
    if (address.kind === 'unix') return httpRequest({ ...options, socketPath: address.socketPath });
    const at = { ...options, host: address.host, port: address.port };
    return address.tls === undefined ? httpRequest(at) : tlsRequest({ ...at, ...address.tls });
  }

  [Symbol.dispose](): void {
    this.#ended.abort(new LonglineError('cancelled', 'the container engine adapter was closed'));
    this.#agent.destroy();
  }

  async #negotiate(): Promise<EngineVersion> {
    const what = 'ask for the version';
    return await this.#bounded(what, this.#limitMs, undefined, async (bounds) => {
      const ask = { method: 'GET', path: '/version', what, limitMs: this.#limitMs } as const;
      const raw = JSON.parse(await readWhole(await this.#dial(ask, undefined, bounds))) as RawVersion;
      const newest = parseApi(raw.ApiVersion);
      const oldest = parseApi(raw.MinAPIVersion ?? raw.ApiVersion);
      if (compare(newest, OLDEST_API) < 0 || compare(oldest, NEWEST_API) > 0) {
        throw new LonglineError(
          'unsupported',
          `the container engine at ${this.where} speaks API ${oldest.join('.')} to ${newest.join('.')}; ` +
            `this agent needs one from ${OLDEST_API.join('.')} to ${NEWEST_API.join('.')}`,
        );
      }
      const api = compare(newest, NEWEST_API) < 0 ? newest : NEWEST_API;
      const podman = raw.Components?.some((component) => component.Name === 'Podman Engine') ?? false;
      return { api: `v${api.join('.')}`, kind: podman ? 'podman' : 'docker', version: raw.Version };
    });
  }

  async #bounded<T>(
    what: string,
    limitMs: number | undefined,
    signal: AbortSignal | undefined,
    work: (bounds: AbortSignal) => Promise<T>,
  ): Promise<T> {
    using scope = new CallScope(what, limitMs, [signal, this.#ended.signal]);
    try {
      return await orAbort(scope.signal, work(scope.signal));
    } catch (error) {
      throw scope.cause ?? this.#explain(what, error);
    }
  }

  #explain(what: string, thrown: unknown): LonglineError {
    const error = connectionError(what, this.where, thrown);
    // The next daemon on this address may be another one.
    if (error.reason === 'unavailable') this.#version = undefined;
    return error;
  }

  #dial(request: EngineRequest, api: string | undefined, bounds: AbortSignal): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    hideFromInspection(bounds);
    const query = new URLSearchParams(request.query);
    this.#modem.dial(
      {
        path: `${api === undefined ? '' : `/${api}`}${request.path}${request.path.includes('?') ? '&' : '?'}${query}`,
        method: request.method,
        // docker-modem cuts the last character of a path with "?" that has no query options; `_query` keeps it whole.
        options: { _query: {}, _body: request.body ?? {} },
        isStream: true,
        statusCodes: SUCCESS,
        abortSignal: bounds,
        ...(request.registryAuth === undefined ? {} : { authconfig: { key: request.registryAuth } }),
      },
      (error, response) => {
        if (error === null || error === undefined) resolve(response as IncomingMessage);
        else if ('statusCode' in error) reject(refusalOf(request.what, error as ModemError));
        else reject(error);
      },
    );
    return promise;
  }
}

/** A refusal as it comes out of the client; keeps what the engine said, for callers that expect some refusals. */
export class RefusedError extends LonglineError {
  readonly refusal: EngineRefusal;

  constructor(what: string, refused: EngineRefusal) {
    const { reason, message } = refusalError(what, refused);
    super(reason, message);
    this.refusal = refused;
  }
}

interface ModemError extends Error {
  readonly statusCode: number;
}

function refusalOf(what: string, error: ModemError): RefusedError {
  const message = error.message.replace(/^\(HTTP code \d+\) [^-]* - /, '');
  return new RefusedError(what, { status: error.statusCode, message });
}

function refusal(status: number, text: string): EngineRefusal {
  try {
    const message: unknown = JSON.parse(text).message;
    if (typeof message === 'string') return { status, message };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { status, message: text };
}

async function readWhole(body: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_LIMIT_BYTES) {
      throw new LonglineError('internal', `the container engine's answer is larger than ${BODY_LIMIT_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * docker-modem prints each request with all that hangs on it into a debug line, whether anybody reads that or not: with the
 * agent come all its sockets. That was several milliseconds a request, and more with each container attached to.
 */
function hideFromInspection(value: object): void {
  Object.defineProperty(value, inspect.custom, { value: () => '[hidden]', configurable: true });
}

/** The work's outcome, or the abort reason as soon as the signal aborts. */
async function orAbort<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function parseApi(text: string): readonly [number, number] {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(text) ?? [];
  if (major === undefined || minor === undefined) {
    throw new LonglineError('unsupported', `the container engine gave ${JSON.stringify(text)} as its API version`);
  }
  return [Number(major), Number(minor)];
}

function compare(a: readonly [number, number], b: readonly [number, number]): number {
  return a[0] - b[0] || a[1] - b[1];
}
