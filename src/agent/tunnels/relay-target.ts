// A tunnel to a port that only the container itself can reach, through a command run inside it: whichever of socat, nc and
// bash the image has. What that command complains of becomes the reason when it fails.
import { LonglineError } from '../../core/errors.ts';
import type { SessionTerminal, SessionVisit } from '../../core/session-access.ts';
import type { TunnelStream } from '../../core/tunnel/tunnel-frame.ts';
import { unlessAborted } from '../../core/tunnel/unless-aborted.ts';
import type { TunnelTarget } from '../../link/ports.ts';

/** $1 is the port. Says "+" on standard error once it has found its program, so that what follows is the program's own. */
const SCRIPT = `
if command -v socat >/dev/null 2>&1; then echo + >&2; exec socat STDIO "TCP:127.0.0.1:$1"; fi
if command -v nc >/dev/null 2>&1; then echo + >&2; exec nc 127.0.0.1 "$1"; fi
if command -v bash >/dev/null 2>&1; then
  echo + >&2
  exec bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1; cat <&3 & trap "kill $!" TERM; cat >&3; wait' relay "$1"
fi
echo 'the image has none of socat, nc and bash to relay with' >&2
exit 127`;

const LONGEST_COMPLAINT = 500;

/**
 * Starts the relay. It is known to work only when bytes come; a failure before that is thrown by `run`, together with what
 * was tried before.
 */
export async function relayTarget(
  visit: SessionVisit,
  port: number,
  tried: readonly string[],
  signal: AbortSignal,
): Promise<TunnelTarget> {
  const argv = ['/bin/sh', '-c', SCRIPT, 'relay', String(port)];
  const command = { argv, env: {}, user: '', workingDir: '', terminal: false, size: undefined };
  const terminal = await visit.execute(command, signal);
  const relay = new Relay(visit, port, tried, terminal);
  try {
    await relay.begun(signal);
    return relay;
  } catch (error) {
    terminal.destroy();
    throw error;
  }
}

class Relay implements TunnelTarget {
  readonly #visit: SessionVisit;
  readonly #port: number;
  readonly #tried: readonly string[];
  readonly #terminal: SessionTerminal;
  readonly #output: AsyncIterator<{ readonly stream: string; readonly data: Uint8Array }>;
  #complaint = '';
  #early: Uint8Array | undefined;

  constructor(visit: SessionVisit, port: number, tried: readonly string[], terminal: SessionTerminal) {
    this.#tried = tried;
    this.#visit = visit;
    this.#port = port;
    this.#terminal = terminal;
    this.#output = terminal.output[Symbol.asyncIterator]();
  }

  get woken(): boolean {
    return this.#visit.woken;
  }

  /** Resolves once the relay's program was found; throws `unavailable` with what the container said otherwise. */
  async begun(signal: AbortSignal): Promise<void> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!this.#complaint.startsWith('+')) {
        const next = await Promise.race([this.#output.next(), aborted.promise]);
        if (next.done) throw await this.#failure();
        // An engine may deliver the first bytes of the port before the line that came before them.
        if (next.value.stream === 'stderr') this.#complain(next.value.data);
        else this.#early = Buffer.concat([this.#early ?? new Uint8Array(), next.value.data]);
        if (this.#early !== undefined) break;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async run(tunnel: TunnelStream): Promise<void> {
    const outward = this.#outward(tunnel);
    const inward = this.#inward(tunnel, outward);
    const both = Promise.race([outward, inward.then(() => unlessAborted(tunnel.gone, outward))]);
    await unlessAborted(tunnel.failed, both);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // TERM and the end of its input: a relay made of several processes takes them all along, which KILL would not.
    await this.#terminal.signal('SIGTERM').catch(() => undefined);
    this.#terminal.destroy();
    this.#visit[Symbol.dispose]();
  }

  async #outward(tunnel: TunnelStream): Promise<void> {
    let bytes = 0;
    const send = async (data: Uint8Array) => {
      bytes += data.length;
      this.#visit.touch(0, data.length);
      await tunnel.write(data);
    };
    if (this.#early !== undefined) await send(this.#early);
    for (;;) {
      const next = await this.#output.next();
      if (next.done) break;
      if (next.value.stream === 'stderr') this.#complain(next.value.data);
      else await send(next.value.data);
    }
    const code = await this.#terminal.exitCode();
    if (bytes === 0 && code !== 0) {
      const failure = await this.#failure();
      const message = `port ${this.#port} of the session can't be reached: ${[...this.#tried, failure.message].join('; ')}`;
      throw new LonglineError('unavailable', message);
    }
    await tunnel.end();
  }

  async #inward(tunnel: TunnelStream, outward: Promise<void>): Promise<void> {
    // The program's end ends the tunnel. Input that fails waits for it: that says why, and may come a little later.
    const untilEnd = () => outward.catch(() => undefined);
    for await (const piece of tunnel.pieces()) {
      if (piece.kind !== 'data') continue;
      this.#visit.touch(piece.data.length, 0);
      await this.#terminal.write(piece.data).catch(untilEnd);
    }
    await this.#terminal.end().catch(untilEnd);
  }

  #complain(data: Uint8Array): void {
    this.#complaint = (this.#complaint + Buffer.from(data).toString()).slice(0, LONGEST_COMPLAINT);
  }

  async #failure(): Promise<LonglineError> {
    const code = await this.#terminal.exitCode();
    const said = this.#complaint.replace(/^\+\n?/, '').trim();
    const why = said === '' ? `it ended with ${code ?? 'an unknown code'}` : said;
    return new LonglineError('unavailable', `relay to 127.0.0.1:${this.#port} inside the container: ${why}`);
  }
}
