// Check of leader election: whether what the replicas elect by can be asked. Who leads is no matter of health.
import { formatDuration } from '../../core/clock.ts';
import type { LeadershipView } from '../ha/leadership.ts';
import { type Check, fine } from './check.ts';

const MENDS: Readonly<Record<string, string>> = {
  file: 'have ha.lock_file and the data folder on a local disk with room, where the agent may write',
  redis: 'see whether Redis runs, and is reached from here as ha.redis_url has it',
  swarm: 'see whether the engine runs and this node is a manager of the Swarm',
  kubernetes: 'see whether the API server is reached, and the service account may get, create and update Leases',
};

/**
 * Degraded while it can't be asked: a leader goes on as long as it holds the lock. Failed once a standby could not ask for longer than
 * `limitMs`: it can't take over.
 */
export function electionCheck(view: () => LeadershipView, limitMs: number): Check {
  return {
    name: 'election',
    look: () => {
      const seen = view();
      const standing = standingText(seen);
      if (seen.problem === '') return fine(standing);
      const reason = `${standing}; for ${formatDuration(seen.problemMs)} the lock can't be asked: ${seen.problem}`;
      const mend =
        MENDS[seen.backend] ?? `see whether ${seen.backend}, which the replicas elect by, is reached from here`;
      return { state: seen.role === 'standby' && seen.problemMs > limitMs ? 'failed' : 'degraded', reason, mend };
    },
  };
}

function standingText({ role, roleMs, epoch, leader }: LeadershipView): string {
  const since = formatDuration(roleMs);
  if (role === 'leader') return `leads for ${since}, epoch ${epoch}`;
  return `stands by for ${since}; ${leader === '' ? 'who leads is not known' : `${leader} leads, epoch ${epoch}`}`;
}
