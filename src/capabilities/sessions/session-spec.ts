// What a session is to be, with nothing left open. Survives JSON unchanged.
import type { HealthCheck } from './health-check.ts';
import type { IdlePolicy } from './idle.ts';
import type { RestartPolicy } from './restart-policy.ts';

/** A session with nothing left open. Survives JSON unchanged. */
export interface SessionSpec {
  /** Image reference, with ":latest" where it named neither tag nor digest. */
  readonly image: string;
  readonly pullPolicy: 'if_missing' | 'always' | 'never';
  /** Empty keeps the image's. */
  readonly entrypoint: readonly string[];
  /** Empty keeps the image's. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly shmBytes: number;
  readonly volumes: readonly VolumeSpec[];
  readonly mounts: readonly MountSpec[];
  readonly network: NetworkSpec;
  /** Empty takes the session id. */
  readonly hostname: string;
  readonly ports: readonly PortSpec[];
  readonly labels: Readonly<Record<string, string>>;
  readonly idle: IdlePolicy | null;
  readonly health: HealthCheck | null;
  readonly restart: RestartPolicy;
  /** Longest life from the first start; 0 for ever. */
  readonly lifetimeMs: number;
  readonly stopGraceMs: number;
  /** Empty takes the image's. */
  readonly stopSignal: string;
  readonly startTimeoutMs: number;
  readonly owner: string;
  /** Empty takes the image's. */
  readonly user: string;
  readonly addCapabilities: readonly string[];
  readonly readOnlyRoot: boolean;
  readonly runtime: string;
  readonly allowNewPrivileges: boolean;
  readonly terminal: boolean;
  readonly openStdin: boolean;
}

/** A volume as it was asked for. */
export interface VolumeSpec {
  readonly name: string;
  readonly scope: 'session' | 'owner' | 'shared';
  readonly target: string;
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  /** 0 for no limit. */
  readonly quotaBytes: number;
  readonly writable: boolean;
}

/** A host folder in a session. */
export interface MountSpec {
  readonly source: string;
  readonly target: string;
  readonly writable: boolean;
}

/** Network of a session. */
export type NetworkSpec =
  /** One of its own; `internal` without a way out. */
  | { readonly mode: 'isolated'; readonly internal: boolean }
  /** The agent's network for sessions. */
  | { readonly mode: 'shared' }
  /** A network of the engine. */
  | { readonly mode: 'named'; readonly name: string }
  /** Loopback only. */
  | { readonly mode: 'none' };

/** A port that tunnels may reach. */
export interface PortSpec {
  readonly name: string;
  readonly number: number;
  readonly protocol: 'raw' | 'vnc' | 'http' | 'ssh';
}
