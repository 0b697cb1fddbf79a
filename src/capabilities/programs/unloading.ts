// Leaves a host clean when the agent is shut down: unloads what is loaded, without changing what is wanted. Bounded, since nobody waits
// for long at a shutdown; what is not unloaded by then stays, and is found at the next start.
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';

const UNLOAD_MS = 10_000;

/** Something that can be let go of. */
export interface Unloadable {
  readonly name: string;
  letGo(signal: AbortSignal): Promise<void>;
}

/** Resolves once all are unloaded, or time is up. What stays is logged. */
export async function unloadAll(programs: readonly Unloadable[], clock: Clock, log: Logger): Promise<void> {
  const limit = new AbortController();
  const over = new AbortController();
  const late = clock.sleep(UNLOAD_MS, over.signal).then(
    () => limit.abort(new LonglineError('late', `programs are not unloaded within ${UNLOAD_MS / 1000} s`)),
    () => undefined,
  );
  const unloads = programs.map(async (program) => {
    try {
      await program.letGo(limit.signal);
    } catch (error) {
      log.error('a program stays loaded', { program: program.name, err: describeError(error) });
    }
  });
  await Promise.race([Promise.all(unloads), late]);
  over.abort();
}
