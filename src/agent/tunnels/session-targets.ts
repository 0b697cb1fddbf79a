// What tunnels of the link reach on this host: ports and processes of sessions. Judges first, then lets the sessions
// capability wake the session, then connects. Everything opened or refused is on the audit record.
import type { OpenTunnel } from '#gen/longline/link/v1/link_pb.js';
import type { TunnelAttach, TunnelExec, TunnelResize } from '#gen/longline/v1/tunnel_pb.js';
import { type FieldViolation, invalid, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { SessionAccess, SessionCommand, SessionFacts, SessionVisit } from '../../core/session-access.ts';
import { unlessAborted } from '../../core/tunnel/unless-aborted.ts';
import type { TunnelTarget, TunnelTargets } from '../../link/ports.ts';
import { portTarget } from './port-target.ts';
import { TerminalTarget } from './terminal-target.ts';

/** Decides whether a tunnel may be opened, and keeps a record of that. */
export interface TunnelJudge {
  /**
   * Throws a LonglineError to refuse. Resolves once the decision is on record, with a function that throws if the rules as
   * they are when it is called would refuse it. `session` is undefined if there is none.
   */
  admit(ask: OpenTunnel, session: SessionFacts | undefined): Promise<() => void>;
  /** What became of an admitted one. Must not throw. */
  ended(ask: OpenTunnel, outcome: string): void;
}

/** A tunnel that was admitted and is not over. */
interface OpenTarget {
  allowed(): void;
  readonly refused: AbortController;
}

/** What targets are made from. */
export interface SessionTargetsParts {
  readonly access: SessionAccess;
  readonly judge: TunnelJudge;
  readonly log: Logger;
}

const SESSION_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
const MAX_ARGUMENTS = 1024;

/** Targets in the sessions of this host. */
export class SessionTargets implements TunnelTargets {
  readonly #parts: SessionTargetsParts;
  readonly #open = new Set<OpenTarget>();

  constructor(parts: SessionTargetsParts) {
    this.#parts = parts;
  }

  /** Ends tunnels that the rules as they are now would refuse. */
  recheck(): void {
    for (const { allowed, refused } of this.#open) {
      try {
        allowed();
      } catch (error) {
        refused.abort(toLonglineError(error));
      }
    }
  }

  async reach(ask: OpenTunnel, signal: AbortSignal): Promise<TunnelTarget> {
    const { judge, access } = this.#parts;
    check(ask);
    const judged = access.facts(ask.sessionId);
    const open: OpenTarget = { allowed: await judge.admit(ask, judged), refused: new AbortController() };
    this.#open.add(open);
    try {
      const target = await this.#connect(ask, judged, signal);
      return {
        woken: target.woken,
        run: (tunnel) => unlessAborted(open.refused.signal, target.run(tunnel)),
        [Symbol.asyncDispose]: async () => {
          this.#open.delete(open);
          await target[Symbol.asyncDispose]();
          const { aborted, reason } = open.refused.signal;
          judge.ended(ask, aborted ? toLonglineError(reason).reason : 'succeeded');
        },
      };
    } catch (error) {
      this.#open.delete(open);
      judge.ended(ask, toLonglineError(error).reason);
      throw error;
    }
  }

  async #connect(ask: OpenTunnel, judged: SessionFacts | undefined, signal: AbortSignal): Promise<TunnelTarget> {
    const { process } = ask;
    const port = process.case === undefined ? { port: ask.port } : {};
    const visit = await this.#parts.access.visit(ask.sessionId, { wake: ask.wake, ...port }, signal);
    try {
      signal.throwIfAborted();
      checkSame(ask.sessionId, judged, this.#parts.access.facts(ask.sessionId));
      if (process.case === 'exec') return await this.#execute(visit, process.value, signal);
      if (process.case === 'attach') return await this.#attach(visit, process.value, signal);
      return await portTarget(visit, ask.port, signal);
    } catch (error) {
      visit[Symbol.dispose]();
      throw error;
    }
  }

  async #execute(visit: SessionVisit, exec: TunnelExec, signal: AbortSignal): Promise<TunnelTarget> {
    const { log } = this.#parts;
    const terminal = await visit.execute(commandOf(exec), signal);
    return new TerminalTarget(visit, terminal, { owned: true, terminal: exec.tty, takesInput: true, log });
  }

  async #attach(visit: SessionVisit, { readOnly, size }: TunnelAttach, signal: AbortSignal): Promise<TunnelTarget> {
    const { log } = this.#parts;
    const terminal = await visit.attachMain(!readOnly, signal);
    if (size !== undefined) await terminal.resize(size.columns, size.rows).catch(() => undefined);
    return new TerminalTarget(visit, terminal, { owned: false, terminal: false, takesInput: !readOnly, log });
  }
}

/** Throws `wrong_state` if the id has become another session since it was judged. */
function checkSame(sessionId: string, judged: SessionFacts | undefined, now: SessionFacts | undefined): void {
  if (judged?.image === now?.image && judged?.user === now?.user) return;
  throw new LonglineError('wrong_state', `session ${sessionId} was replaced by another meanwhile; ask again`);
}

function commandOf({ argv, env, user, workingDir, tty, size }: TunnelExec): SessionCommand {
  const first = tty && size !== undefined ? { columns: size.columns, rows: size.rows } : undefined;
  return { argv, env, user, workingDir, terminal: tty, size: first };
}

/** Throws `invalid` with every wrong field. The controller checks too; it isn't trusted to. */
function check({ sessionId, port, process }: OpenTunnel): void {
  const violations: FieldViolation[] = [];
  const refuse = (field: string, description: string) => violations.push({ field, description });
  if (!SESSION_ID.test(sessionId)) refuse('session_id', `${JSON.stringify(sessionId.slice(0, 80))} is no session id`);
  if (process.case === undefined && !(port >= 1 && port <= 65_535)) refuse('port', `is ${port}; must be 1 to 65535`);
  if (process.case !== undefined && port !== 0) refuse('port', `is ${port} beside a process; leave it out`);
  if (process.case === 'exec') {
    const { argv } = process.value;
    if (argv.length === 0 || argv[0] === '') refuse('exec.argv', 'is empty; name the program to run');
    if (argv.length > MAX_ARGUMENTS) refuse('exec.argv', `has ${argv.length} words; at most ${MAX_ARGUMENTS}`);
    if (argv.some((word) => word.includes('\0'))) refuse('exec.argv', 'has a NUL character; no argument can hold one');
  }
  const size = process.case === undefined ? undefined : process.value.size;
  if (size !== undefined && !isSize(size)) refuse('size', `is ${size.columns}x${size.rows}; each must be 1 to 65535`);
  if (violations.length > 0) throw invalid(violations);
}

function isSize({ columns, rows }: TunnelResize): boolean {
  return [columns, rows].every((count) => count >= 1 && count <= 65_535);
}
