// Forgets programs that were taken away once their agents say so. It holds nothing that matters: killed anywhere, it looks at
// everything again. What fails is logged and tried again.
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { Progress } from '../../core/progress.ts';
import type { Bus } from '../bus/bus.ts';
import { desiredStatesTopic, programsTopic } from '../bus/topics.ts';
import { nextWithin } from '../services/waiting.ts';
import { forgetRemoved, type RemovableItems } from '../states/removed-items.ts';
import type { Store } from '../store/store.ts';
import { isAskedHere, programsIn } from './program-report.ts';

const PENDING_CHANGES = 4096;
const PAGE = 1000;
/** Longer than a look at everything takes. */
const LOOK_LIMIT_MS = 900_000;

/** What it is made from. */
export interface ProgramUpkeepParts {
  readonly store: Store;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Logger;
  /** How often everything is looked at, should a wake-up have been lost. */
  readonly recheckMs: number;
  readonly progress: Progress;
}

/** Goes on until the signal aborts. */
export async function runProgramUpkeep(parts: ProgramUpkeepParts, signal: AbortSignal): Promise<void> {
  const { store, bus, clock, log, progress, recheckMs } = parts;
  const items: RemovableItems = {
    stateKind: DesiredStateKind.PROGRAMS,
    topic: programsTopic,
    repository: store.programs,
    // One of the same name from elsewhere is another.
    isTold: (report, name) => programsIn(report).some((one) => one.name === name && isAskedHere(one)),
  };
  using states = await bus.subscribe(desiredStatesTopic, PENDING_CHANGES);
  let recheckAtMs = clock.monotonic();
  while (!signal.aborted) {
    progress.expect(recheckMs + LOOK_LIMIT_MS, 'a look');
    let agents: readonly string[] = [];
    try {
      if (clock.monotonic() >= recheckAtMs) {
        recheckAtMs = clock.monotonic() + recheckMs;
        agents = await allRemoving(store);
      } else {
        const event = await nextWithin(states, clock, recheckAtMs - clock.monotonic(), signal);
        if (event?.kind === 'lagged') recheckAtMs = clock.monotonic();
        else if (event?.message.stateKind === DesiredStateKind.PROGRAMS) agents = [event.message.agentId];
      }
      for (const agentId of agents) await forgetRemoved(parts, agentId, items);
    } catch (error) {
      log.error('programs that were taken away: failed; tried again', { err: describeError(error) });
    }
  }
  progress.rest();
}

/** All of them: those that are away for long must not keep others from being looked at. */
async function allRemoving({ programs }: Pick<Store, 'programs'>): Promise<readonly string[]> {
  const agents: string[] = [];
  for (;;) {
    const page = await programs.agentsRemoving(agents.at(-1) ?? '', PAGE);
    if (page.length === 0) return agents;
    agents.push(...page);
  }
}
