// Bounds and defaults of sessions on a host, as the agent's settings give them. Pure.
import type { PullSettings } from '../../core/images/image-puller.ts';
import type { HostLimits } from './admission.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** When images that this agent pulled are removed again. */
export interface ImageRetention {
  readonly enabled: boolean;
  /** Use of the disk, in percent, from which on images are removed. */
  readonly highPercent: number;
  /** Use of the disk, in percent, down to which they are. */
  readonly lowPercent: number;
  /** An image is kept at least this long after its last use. */
  readonly minAgeMs: number;
}

/** Everything about sessions that a host decides. */
export interface SessionsConfig {
  readonly limits: HostLimits;
  readonly defaults: {
    readonly cpus: number;
    readonly memoryBytes: number;
    readonly pids: number;
    readonly shmBytes: number;
  };
  /** Network that sessions of mode SHARED are in. */
  readonly networkName: string;
  /** Where isolated networks take their addresses from, in CIDR notation. */
  readonly subnetPool: string;
  readonly volumeDriver: string;
  /** Empty takes the engine's default. */
  readonly runtime: string;
  readonly pull: PullSettings;
  readonly images: ImageRetention;
  readonly sampleEveryMs: number;
  /** The engine keeps about this much output of each container for recovery. */
  readonly keepLogBytes: number;
}

/** What holds unless the agent is told otherwise. */
export const DEFAULT_SESSIONS_CONFIG: SessionsConfig = {
  limits: { maxCpus: 100, maxMemoryBytes: 128 * GIB, maxSessions: 100 },
  defaults: { cpus: 1, memoryBytes: GIB, pids: 512, shmBytes: 64 * MIB },
  networkName: 'longline',
  subnetPool: '10.213.0.0/16',
  volumeDriver: 'local',
  runtime: '',
  pull: { attempts: 5, backoffBaseMs: 1000, backoffCapMs: 30_000, timeoutMs: 30 * 60_000 },
  images: { enabled: true, highPercent: 85, lowPercent: 75, minAgeMs: 60 * 60_000 },
  sampleEveryMs: 10_000,
  keepLogBytes: 16 * MIB,
};
