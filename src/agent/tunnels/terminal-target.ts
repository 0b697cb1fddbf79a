// A tunnel to a process of a session: a new command, or the main process. Its output goes out with its exit code as the
// last piece; input, terminal sizes and signals come in. A command ends with its tunnel, the main process goes on.
import { constants } from 'node:os';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { SessionTerminal, SessionVisit } from '../../core/session-access.ts';
import type { TunnelControl, TunnelStream } from '../../core/tunnel/tunnel-frame.ts';
import { unlessAborted } from '../../core/tunnel/unless-aborted.ts';
import type { TunnelTarget } from '../../link/ports.ts';

/** Ctrl-D: what a terminal takes for the end of input. */
const END_OF_TRANSMISSION = Uint8Array.of(4);

/** What is known of the process. */
export interface TerminalFacts {
  /** True for a command of this tunnel, which ends with it. */
  readonly owned: boolean;
  /** True if a command has a terminal, whose input ends with a character: closing it would hang up. */
  readonly terminal: boolean;
  /** False if what the client sends is ignored. */
  readonly takesInput: boolean;
  readonly log: Logger;
}

/** Wraps a process; the visit is left when the target is disposed. */
export class TerminalTarget implements TunnelTarget {
  readonly #visit: SessionVisit;
  readonly #terminal: SessionTerminal;
  readonly #facts: TerminalFacts;
  #exited = false;

  constructor(visit: SessionVisit, terminal: SessionTerminal, facts: TerminalFacts) {
    this.#visit = visit;
    this.#terminal = terminal;
    this.#facts = facts;
  }

  get woken(): boolean {
    return this.#visit.woken;
  }

  async run(tunnel: TunnelStream): Promise<void> {
    const outward = this.#outward(tunnel);
    const inward = this.#inward(tunnel);
    this.#obey(tunnel).catch((error: unknown) =>
      this.#facts.log.debug('no more signals', { err: describeError(error) }),
    );
    const both = Promise.race([outward, inward.then(() => unlessAborted(tunnel.gone, outward))]);
    await unlessAborted(tunnel.failed, both);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#facts.owned && !this.#exited) await this.#kill();
    this.#terminal.destroy();
    this.#visit[Symbol.dispose]();
  }

  async #outward(tunnel: TunnelStream): Promise<void> {
    for await (const { stream, data } of this.#terminal.output) {
      this.#visit.touch(0, data.length);
      await tunnel.write(data, stream === 'stderr' ? 'stderr' : 'data');
    }
    const code = await this.#terminal.exitCode();
    if (code !== undefined) {
      this.#exited = true;
      await tunnel.say({ kind: 'exit', code, signal: signalOf(code) });
    }
    await tunnel.end();
  }

  async #inward(tunnel: TunnelStream): Promise<void> {
    let open = this.#facts.takesInput;
    for await (const piece of tunnel.pieces()) {
      if (piece.kind !== 'data' || !open) continue;
      this.#visit.touch(piece.data.length, 0);
      open = await this.#write(piece.data);
    }
    if (open) await this.#endInput();
  }

  /** The main process goes on, and may be attached to again: its input stays as it is. */
  async #endInput(): Promise<void> {
    const { owned, terminal } = this.#facts;
    if (!owned) return;
    if (terminal) await this.#write(END_OF_TRANSMISSION);
    else await this.#taken(this.#terminal.end());
  }

  async #write(data: Uint8Array): Promise<boolean> {
    return await this.#taken(this.#terminal.write(data));
  }

  /** False once the process takes no more input: its output may well go on. */
  async #taken(input: Promise<void>): Promise<boolean> {
    try {
      await input;
      return true;
    } catch (error) {
      this.#facts.log.debug('input is no longer taken', { err: describeError(error) });
      return false;
    }
  }

  async #obey(tunnel: TunnelStream): Promise<void> {
    for await (const control of tunnel.controls()) await this.#control(control);
  }

  async #control(piece: TunnelControl): Promise<void> {
    try {
      if (piece.kind === 'resize') await this.#terminal.resize(piece.size.columns, piece.size.rows);
      else await this.#terminal.signal(piece.signal);
    } catch (error) {
      // The process may have ended just now. No reason to end the tunnel either way.
      this.#facts.log.debug('the process could not be told', { kind: piece.kind, err: describeError(error) });
    }
  }

  async #kill(): Promise<void> {
    try {
      await this.#terminal.signal('SIGHUP');
      await this.#terminal.signal('SIGKILL');
    } catch (error) {
      if (error instanceof LonglineError && error.reason === 'not_found') return;
      this.#facts.log.warn('a command of a closed tunnel could not be ended', { err: describeError(error) });
    }
  }
}

/** Name of the signal that an exit code of 128 + n stands for; empty for none. */
function signalOf(code: number): string {
  if (code <= 128) return '';
  const entry = Object.entries(constants.signals).find(([, number]) => number === code - 128);
  return entry?.[0] ?? '';
}
