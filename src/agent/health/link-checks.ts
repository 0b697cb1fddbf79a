// Checks of the way to the controller: the link, and the certificate that it is opened with.
import { formatDuration } from '../../core/clock.ts';
import type { LinkStatus } from '../../link/link-state.ts';
import { type Check, fine } from './check.ts';

/** A renewal is due at two thirds of a certificate's life; with less of it left than this something keeps it from coming. */
const LEAST_LIFE_LEFT = 1 / 6;

/** A certificate's life, milliseconds since the epoch. */
export interface CertificateLife {
  readonly obtainedAtMs: number;
  readonly expiresAtMs: number;
}

/** Degraded once there is no link for longer than `limitMs`: the agent goes on without, but nobody tells it anything. */
export function linkCheck(status: () => Pick<LinkStatus, 'state' | 'awayMs'>, limitMs: number): Check {
  return {
    name: 'link',
    look: () => {
      const { state, awayMs } = status();
      if (awayMs === undefined) return fine(state.kind);
      const why = 'reason' in state ? `: ${state.reason}` : '';
      const reason = `${state.kind}, not open for ${formatDuration(awayMs)}${why}`;
      if (awayMs <= limitMs) return fine(reason);
      return {
        state: 'degraded',
        reason,
        mend: 'see whether the controller runs and this host reaches it: longline doctor',
      };
    },
  };
}

/** @param life undefined where there is none, as with an API key. */
export function certificateCheck(life: () => CertificateLife | undefined, now: () => number): Check {
  return {
    name: 'certificate',
    look: () => {
      const lived = life();
      if (lived === undefined) return fine('none is used');
      const { obtainedAtMs, expiresAtMs } = lived;
      const leftMs = expiresAtMs - now();
      const ends = new Date(expiresAtMs).toISOString();
      if (leftMs <= 0) {
        const mend =
          'enrol the host anew: longline token create, then start the agent with --token; and see to its clock';
        return { state: 'failed', reason: `it lapsed at ${ends}`, mend };
      }
      const reason = `it ends at ${ends}, in ${formatDuration(leftMs)}`;
      if (leftMs > (expiresAtMs - obtainedAtMs) * LEAST_LIFE_LEFT) return fine(reason);
      return {
        state: 'degraded',
        reason: `${reason}, and could not be renewed yet`,
        mend: 'see the log of the agent for why its renewal fails',
      };
    },
  };
}
