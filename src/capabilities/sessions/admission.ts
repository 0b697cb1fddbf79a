// Whether a session fits onto the host: what the agent may give away, less what is given away already. Pure.
import { formatByteSize } from '../../core/byte-size.ts';
import { LonglineError } from '../../core/errors.ts';

/** Most that all sessions together may have. */
export interface HostLimits {
  /** Cores. */
  readonly maxCpus: number;
  readonly maxMemoryBytes: number;
  readonly maxSessions: number;
}

/** What one session takes, or all together. */
export interface Share {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly sessions: number;
}

/** The share of nobody. */
export const NOTHING: Share = { cpus: 0, memoryBytes: 0, sessions: 0 };

/** Both together. */
export function sum(left: Share, right: Share): Share {
  return {
    cpus: round(left.cpus + right.cpus),
    memoryBytes: left.memoryBytes + right.memoryBytes,
    sessions: left.sessions + right.sessions,
  };
}

/** All of them together. */
export function total(shares: Iterable<Share>): Share {
  let all = NOTHING;
  for (const share of shares) all = sum(all, share);
  return all;
}

/** Throws `limit` with asked, reserved and limit of everything that would be exceeded. */
export function admit(asked: Share, reserved: Share, limits: HostLimits): void {
  const short: string[] = [];
  const after = sum(asked, reserved);
  if (asked.sessions > 0 && after.sessions > limits.maxSessions) {
    short.push(`sessions: ${reserved.sessions} are there, and max_sessions is ${limits.maxSessions}`);
  }
  if (asked.cpus > 0 && after.cpus > limits.maxCpus) {
    short.push(`cpu: asked ${asked.cpus} cores, reserved ${reserved.cpus}, max_cpu is ${limits.maxCpus}`);
  }
  if (asked.memoryBytes > 0 && after.memoryBytes > limits.maxMemoryBytes) {
    const [want, held, most] = [asked.memoryBytes, reserved.memoryBytes, limits.maxMemoryBytes].map(formatByteSize);
    short.push(`memory: asked ${want}, reserved ${held}, max_memory is ${most}`);
  }
  if (short.length === 0) return;
  throw new LonglineError('limit', `this host has no room for the session: ${short.join('; ')}`);
}

/** Sums of fractions of cores would drift away from what was added and taken away. */
function round(cpus: number): number {
  return Math.round(cpus * 1e6) / 1e6;
}
