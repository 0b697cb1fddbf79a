// A process of a session at this terminal: output as it comes, input, sizes and signals the other way, and its exit code in
// the end. Works the same in a pipe, without a terminal.
import { LonglineError } from '../../core/errors.ts';
import type { TunnelEnd } from '../../core/tunnel/tunnel-end.ts';
import { unlessAborted } from '../../core/tunnel/unless-aborted.ts';
import type { InterruptGuard } from '../interrupt.ts';
import { type CliIo, EXIT } from '../io.ts';
import { type DetachKeys, DetachScanner } from './detach-keys.ts';
import { rawTerminal } from './raw-terminal.ts';

/** How a process is shown. */
export interface ProcessDisplay {
  /** True to send standard input. */
  readonly input: boolean;
  /** True if the process has a terminal of its own. */
  readonly terminal: boolean;
  /** True for the main process: Ctrl-C leaves it, and doesn't end it. */
  readonly attached: boolean;
  readonly detachKeys: DetachKeys;
}

/** How it ended for us. */
export type ProcessEnd =
  | { readonly kind: 'exited'; readonly code: number; readonly signal: string }
  /** The keys were typed, or Ctrl-C left the main process. */
  | { readonly kind: 'detached' }
  /** Its output ended, and it goes on or nobody knows its exit code. */
  | { readonly kind: 'closed' };

/** Shows the process until it ends or is left. */
export async function showProcess(
  io: CliIo,
  tunnel: TunnelEnd,
  display: ProcessDisplay,
  interrupt: InterruptGuard,
): Promise<ProcessEnd> {
  using _raw = display.terminal && display.input ? rawTerminal(io) : undefined;
  using _sizes = display.terminal ? tellSizes(io, tunnel) : undefined;
  const detached = new AbortController();
  const leave = () => detached.abort(new LonglineError('cancelled', 'detached'));
  const onInterrupt = () => {
    if (display.attached) leave();
    else tunnel.say({ kind: 'signal', signal: 'SIGINT' }).catch(() => undefined);
  };
  interrupt.signal.addEventListener('abort', onInterrupt, { once: true });
  io.stdout.closed.addEventListener('abort', leave, { once: true });
  const sending = display.input ? sendInput(io, tunnel, display, leave) : tunnel.end();
  // It is over when the output is; what is still typed then has nowhere to go.
  sending.catch((error: unknown) => tunnel.fail(error instanceof LonglineError ? error : broken(error)));
  try {
    return await unlessAborted(detached.signal, showOutput(io, tunnel));
  } catch (error) {
    if (!detached.signal.aborted) throw error;
    if (io.stdout.closed.aborted) io.exitCode = EXIT.outputClosed;
    return { kind: 'detached' };
  } finally {
    interrupt.signal.removeEventListener('abort', onInterrupt);
    io.stdout.closed.removeEventListener('abort', leave);
    // Input that nobody reads any more must not keep the process alive.
    if (display.input) io.stdin.destroy();
  }
}

async function showOutput(io: CliIo, tunnel: TunnelEnd): Promise<ProcessEnd> {
  let end: ProcessEnd = { kind: 'closed' };
  for await (const piece of tunnel.pieces()) {
    if (piece.kind === 'data') await io.stdout.write(piece.data);
    else if (piece.kind === 'stderr') await io.stderr.write(piece.data);
    else if (piece.kind === 'exit') end = { kind: 'exited', code: piece.code, signal: piece.signal };
  }
  return end;
}

async function sendInput(
  io: CliIo,
  tunnel: TunnelEnd,
  { terminal, detachKeys }: ProcessDisplay,
  leave: () => void,
): Promise<void> {
  const scanner = new DetachScanner(terminal && io.stdin.isTTY === true ? detachKeys : new Uint8Array());
  for await (const read of io.stdin as AsyncIterable<Uint8Array | string>) {
    if (tunnel.gone.aborted) return;
    const { send, detached } = scanner.scan(typeof read === 'string' ? Buffer.from(read) : read);
    await tunnel.write(send).catch((error: unknown) => {
      // The process ended meanwhile; how, its output says.
      if (!tunnel.gone.aborted) throw error;
    });
    if (detached) return leave();
  }
  await tunnel.end().catch((error: unknown) => {
    if (!tunnel.gone.aborted) throw error;
  });
}

function tellSizes(io: CliIo, tunnel: TunnelEnd): Disposable {
  return io.stdout.onResize(() => {
    const { size } = io.stdout;
    // A tunnel that is gone has told its reader so.
    if (size !== undefined) tunnel.say({ kind: 'resize', size }).catch(() => undefined);
  });
}

function broken(error: unknown): LonglineError {
  const why = error instanceof Error ? error.message : String(error);
  return new LonglineError('unavailable', `standard input can't be read: ${why}`, { cause: error });
}
