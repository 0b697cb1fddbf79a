// An interface of a user-space WireGuard, through its socket. Each operation has a connection of its own: one that follows
// another in the same write is swallowed by wireguard-go, boringtun takes only one, and after an error the rest is undefined.
// Fails with `unavailable` if nobody answers in time, and otherwise with what was refused; never with what was sent.
import { connect } from 'node:net';
import { getSystemErrorName } from 'node:util';
import type { DeviceChange, FoundDevice, WireguardDevice } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { decodeDevice, encodeChange, errnoOf, GET, NOTHING, PROBE, quirksOf, type UapiQuirks } from './uapi.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** 65,536 peers with a dozen prefixes each. */
const MAX_REPLY_BYTES = 128 * 1024 * 1024;
const EADDRINUSE = 98;

/** Where an interface listens for its configuration. */
export function uapiPath(name: string, platform: NodeJS.Platform = process.platform): string {
  const windows = `\\\\.\\pipe\\ProtectedPrefix\\Administrators\\WireGuard\\${name}`;
  return platform === 'win32' ? windows : `/var/run/wireguard/${name}.sock`;
}

/** Talks to one interface. Holds nothing open between calls. */
export class UapiDevice implements WireguardDevice {
  readonly #path: string;
  readonly #timeoutMs: number;
  readonly #now: () => number;
  #quirks: UapiQuirks | undefined;

  constructor(path: string, options: { readonly timeoutMs?: number; readonly now?: () => number } = {}) {
    this.#path = path;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#now = options.now ?? Date.now;
  }

  async read(signal?: AbortSignal): Promise<FoundDevice> {
    const quirks = await this.#known(signal);
    const reply = await this.#operate(GET, signal);
    this.#check(errnoOf(reply), 'be read');
    return decodeDevice(reply, quirks, this.#now());
  }

  async write(change: DeviceChange, signal?: AbortSignal): Promise<void> {
    const quirks = await this.#known(signal);
    for (const operation of encodeChange(change, quirks)) {
      const errno = errnoOf(await this.#operate(operation, signal));
      this.#check(errno, 'take a change; what came before the refused part stays written');
    }
  }

  /** Resolves if it answers, whoever it is. */
  async alive(signal?: AbortSignal): Promise<void> {
    this.#check(errnoOf(await this.#operate(NOTHING, signal)), 'do nothing');
  }

  /** Asks who it is. Changes nothing. */
  async probe(signal?: AbortSignal): Promise<UapiQuirks> {
    this.#quirks = quirksOf(errnoOf(await this.#operate(PROBE, signal)));
    return this.#quirks;
  }

  async #known(signal: AbortSignal | undefined): Promise<UapiQuirks> {
    return this.#quirks ?? (await this.probe(signal));
  }

  #check(errno: number, what: string): void {
    if (errno === 0) return;
    const number = Math.abs(errno);
    const message = `WireGuard at ${this.#path} refused to ${what} (errno ${number}, ${getSystemErrorName(-number)})`;
    if (number === EADDRINUSE) throw new LonglineError('already_exists', `${message}: its listen port is taken`);
    throw new LonglineError('invalid', message);
  }

  /** Sends one operation and gives the whole reply. */
  #operate(operation: string, signal: AbortSignal | undefined): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const limit = AbortSignal.timeout(this.#timeoutMs);
    const either = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    const socket = connect({ path: this.#path, signal: either });
    const chunks: Buffer[] = [];
    let size = 0;
    let last = -1;
    const fail = (why: string, cause?: unknown) => {
      reject(new LonglineError('unavailable', `WireGuard at ${this.#path} ${why}`, { cause }));
      socket.destroy();
    };
    socket.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_REPLY_BYTES) return fail(`sent more than ${MAX_REPLY_BYTES} bytes`);
      chunks.push(chunk);
      const before = chunk.length > 1 ? chunk.at(-2) : last;
      last = chunk.at(-1)!;
      if (before !== 10 || last !== 10) return;
      resolve(Buffer.concat(chunks).toString('latin1'));
      socket.destroy();
    });
    socket.on('end', () => fail('closed the connection before its reply was complete'));
    socket.on('error', (error) => {
      if (limit.aborted) return fail(`gave no reply within ${this.#timeoutMs / 1000} s`, error);
      if (signal?.aborted)
        return reject(new LonglineError('cancelled', 'the operation was cancelled', { cause: error }));
      fail(`can't be reached: ${error.message}`, error);
    });
    socket.on('close', () => fail('closed the connection'));
    socket.write(operation);
    return promise;
  }
}
