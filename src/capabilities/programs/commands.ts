// Carries out commands about programs. One that was begun by an earlier process is not done twice: what it asked for is on disk.
import type { CapabilityCommand, CapabilityEvent, CommandContext } from '../../core/capability.ts';
import type { Clock } from '../../core/clock.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Program } from './program.ts';
import type { RollbackRecord } from './rollback.ts';
import { decodeAction, encodeReleased, encodeRolledBack, type ProgramRequest } from './wire.ts';

const WAIT_MS = 60_000;
const MAX_REASON = 1024;

/** What commands act on. */
export interface CommandHost {
  readonly clock: Clock;
  readonly history: () => readonly RollbackRecord[];
  readonly program: (name: string) => Program | undefined;
  readonly names: () => readonly string[];
  readonly releaseQuarantine: (artifact: string | undefined) => Promise<readonly string[]>;
}

type Result = Extract<CapabilityEvent, { kind: 'result' }>;

/** The result of a command. Never throws. */
export async function carryOut(
  command: CapabilityCommand,
  context: CommandContext,
  host: CommandHost,
): Promise<Result> {
  try {
    const request = decodeAction(command.action);
    const detail =
      request.kind === 'roll_back'
        ? encodeRolledBack(await rollBack(request, command, context, host))
        : encodeReleased(await host.releaseQuarantine(request.artifact));
    return { kind: 'result', outcome: 'succeeded', detail };
  } catch (thrown) {
    const error = toLonglineError(thrown);
    const outcome = context.signal.aborted ? 'cancelled' : error.reason === 'late' ? 'timed_out' : 'failed';
    return { kind: 'result', outcome, detail: new Uint8Array(), error };
  }
}

async function rollBack(
  { name, reason, artifact }: Extract<ProgramRequest, { kind: 'roll_back' }>,
  { id }: CapabilityCommand,
  { resumed, signal }: CommandContext,
  host: CommandHost,
): Promise<RollbackRecord> {
  if (reason.length > MAX_REASON) {
    throw new LonglineError('invalid', `reason: has ${reason.length} characters; at most ${MAX_REASON}`);
  }
  const program = host.program(name);
  if (resumed) {
    // A rollback that was decided on is seen through by itself.
    await within(program?.want(program.order), signal, host.clock);
    const done = host.history().find(({ requestedBy }) => requestedBy === id);
    if (done !== undefined) return done;
  }
  if (program === undefined) {
    const names = [...host.names()].sort().join(', ') || 'none';
    throw new LonglineError('not_found', `name: there is no program "${name}"; there are: ${names}`);
  }
  const why = reason === '' ? 'it was asked for' : reason;
  const cause = {
    trigger: 'request',
    threshold: 0,
    value: 0,
    figures: undefined,
    reason: why,
    requestedBy: id,
  } as const;
  const done = await within(program.rollBack(cause, { artifact }), signal, host.clock);
  if (done !== undefined) return done;
  throw new LonglineError('late', `program ${name} is not rolled back after ${WAIT_MS / 1000} s; it goes on by itself`);
}

/** Undefined if it takes too long. Throws the signal's reason. */
async function within<T>(work: Promise<T> | undefined, signal: AbortSignal, clock: Clock): Promise<T | undefined> {
  const over = new AbortController();
  const stop = () => over.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  const limit = clock.sleep(WAIT_MS, over.signal).then(
    () => undefined,
    () => {
      signal.throwIfAborted();
      return undefined;
    },
  );
  try {
    return await Promise.race([work, limit]);
  } finally {
    signal.removeEventListener('abort', stop);
    over.abort();
    await limit.catch(() => undefined);
  }
}
