// What the sessions capability needs from outside, one port for each need. src/platform/docker serves the engine's ports,
// the agent hands in the rest. Nothing here knows Docker, Podman or the link. Errors are LonglineErrors: `unavailable`
// when the engine can't be reached, `not_found` for what isn't there, `already_exists` for a taken name, `limit` for a full
// disk, `invalid` for what the engine refuses as malformed.
import type { ImageSource } from '../../core/images/image.ts';
import type { OutputLog, OutputPiece } from '../../core/output/output-log.ts';
import type { SessionCommand, SessionTerminal } from '../../core/session-access.ts';
import type { Cause, Tier } from './state.ts';

/** What the engine is, and what it can do for sessions. */
export interface SessionEngineFacts {
  readonly kind: 'docker' | 'podman';
  readonly version: string;
  readonly runtimes: readonly string[];
  readonly defaultRuntime: string;
  /** Undefined if it can write a container's memory to disk; else why it can't. */
  readonly checkpointMissing: string | undefined;
}

/** A volume or host folder in a container. */
export interface SessionMountPoint {
  readonly kind: 'volume' | 'folder';
  readonly source: string;
  readonly target: string;
  readonly writable: boolean;
}

/** Everything needed to create a session's container; no defaults are added by the engine adapter. */
export interface SessionContainerSpec {
  readonly name: string;
  readonly image: string;
  /** Undefined keeps the image's. */
  readonly entrypoint: readonly string[] | undefined;
  /** Undefined keeps the image's. */
  readonly command: readonly string[] | undefined;
  readonly env: Readonly<Record<string, string>>;
  /** Empty takes the image's. */
  readonly workingDir: string;
  /** Empty takes the image's. */
  readonly user: string;
  readonly hostname: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly cpus: number;
  /** Memory and swap together. */
  readonly memoryBytes: number;
  readonly pids: number;
  readonly shmBytes: number;
  /** Name of its network; undefined for loopback only. */
  readonly network: string | undefined;
  readonly mounts: readonly SessionMountPoint[];
  /** Linux capabilities on top of none, without the CAP_ prefix. */
  readonly addCapabilities: readonly string[];
  readonly readOnlyRoot: boolean;
  readonly noNewPrivileges: boolean;
  /** Empty takes the engine's default. */
  readonly runtime: string;
  readonly terminal: boolean;
  readonly openStdin: boolean;
  /** Empty takes the image's. */
  readonly stopSignal: string;
  /** The engine keeps about this much output for recovery after a crash, and no more. */
  readonly keepLogBytes: number;
}

/** State of a container as the engine tells it. */
export type ContainerState = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';

/** A container as a list shows it: cheap, all at once. */
export interface SessionContainerRow {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: ContainerState;
  readonly addresses: readonly string[];
}

/** A container looked at closely. */
export interface SessionContainerFacts extends SessionContainerRow {
  /** Image id. */
  readonly image: string;
  /** Undefined until it has exited. */
  readonly exitCode: number | undefined;
  readonly oomKilled: boolean;
  readonly startedAtMs: number | undefined;
  readonly finishedAtMs: number | undefined;
  /** Main process on this host; undefined if it doesn't run, or runs on another host. */
  readonly pid: number | undefined;
  /** The engine's word on why it couldn't start; empty if none. */
  readonly error: string;
}

/** A live connection to a container's output. The owner must destroy it. */
export interface OutputConnection {
  /** Ends when the container's output ends; throws `unavailable` if the connection broke. One reader. */
  readonly output: AsyncIterable<OutputPiece>;
  destroy(): void;
}

/** Containers. */
export interface SessionContainers {
  createContainer(spec: SessionContainerSpec, signal?: AbortSignal): Promise<string>;
  inspectContainer(idOrName: string, signal?: AbortSignal): Promise<SessionContainerFacts | undefined>;
  /** Containers in any state that carry this label with this value: one call, whatever their number. */
  listContainers(label: string, value: string, signal?: AbortSignal): Promise<readonly SessionContainerRow[]>;
  /** Attach before start, or output is lost. */
  attachOutput(id: string, terminal: boolean, signal?: AbortSignal): Promise<OutputConnection>;
  /** Output that the engine kept since a moment, going on as it comes until the container ends, if `follow`. */
  readOutput(
    id: string,
    options: { readonly sinceMs: number; readonly follow: boolean; readonly terminal: boolean },
    signal?: AbortSignal,
  ): AsyncIterable<OutputPiece>;
  /** A container that runs already is no error. */
  startContainer(id: string, signal?: AbortSignal): Promise<void>;
  /** One that is paused already is no error. */
  pauseContainer(id: string, signal?: AbortSignal): Promise<void>;
  /** One that isn't paused is no error. */
  unpauseContainer(id: string, signal?: AbortSignal): Promise<void>;
  /** Sends its stop signal, and KILL after the grace; resolves when it has ended. One that has ended is no error. */
  stopContainer(id: string, graceMs: number, signal?: AbortSignal): Promise<void>;
  /** Removes it with its anonymous volumes, killing it if it runs. Absent is no error. */
  removeContainer(id: string, signal?: AbortSignal): Promise<void>;
  /** Writes its memory to disk and ends it; `startCheckpoint` goes on from there. */
  checkpointContainer(id: string, checkpoint: string, signal?: AbortSignal): Promise<void>;
  startCheckpoint(id: string, checkpoint: string, signal?: AbortSignal): Promise<void>;
}

/** A network or volume of the engine. */
export interface NamedThing {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** A network as the engine has it. */
export interface SessionNetworkFacts extends NamedThing {
  /** In CIDR notation. */
  readonly subnets: readonly string[];
  /** True for one without a way out of the host. */
  readonly internal: boolean;
}

/** What a network is to be. */
export interface SessionNetworkSpec {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Without a way out of the host. */
  readonly internal: boolean;
  /** In CIDR notation; undefined leaves it to the engine. */
  readonly subnet: string | undefined;
}

/** Networks. */
export interface SessionNetworks {
  findNetwork(name: string, signal?: AbortSignal): Promise<SessionNetworkFacts | undefined>;
  listNetworks(signal?: AbortSignal): Promise<readonly SessionNetworkFacts[]>;
  /** Throws `already_exists` for a taken name, `limit` for a subnet that is in use. */
  createNetwork(spec: SessionNetworkSpec, signal?: AbortSignal): Promise<void>;
  /** Absent is no error; `wrong_state` while containers are in it. */
  removeNetwork(name: string, signal?: AbortSignal): Promise<void>;
}

/** What a volume is to be. */
export interface SessionVolumeSpec {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  /** 0 for no limit; refused as `unsupported` where the driver can't hold to it. */
  readonly quotaBytes: number;
}

/** Volumes. */
export interface SessionVolumes {
  findVolume(name: string, signal?: AbortSignal): Promise<NamedThing | undefined>;
  listVolumes(label: string, value: string, signal?: AbortSignal): Promise<readonly NamedThing[]>;
  createVolume(spec: SessionVolumeSpec, signal?: AbortSignal): Promise<void>;
  /** Absent is no error; `wrong_state` while a container uses it. */
  removeVolume(name: string, signal?: AbortSignal): Promise<void>;
}

/** Processes inside a running container. */
export interface SessionProcesses {
  execute(containerId: string, command: SessionCommand, signal?: AbortSignal): Promise<SessionTerminal>;
  /** Connects to the main process. */
  attachMain(
    containerId: string,
    options: { readonly terminal: boolean; readonly withInput: boolean },
    signal?: AbortSignal,
  ): Promise<SessionTerminal>;
}

/** Whose resources are read. */
export interface MeasuredContainer {
  readonly id: string;
  readonly pid: number | undefined;
}

/** Resources of a container at one moment; totals count from its start. */
export interface ResourceReading {
  readonly atMs: number;
  readonly cpuNanos: number;
  /** Without page cache that can be dropped. */
  readonly memoryBytes: number;
  readonly networkRxBytes: number;
  readonly networkTxBytes: number;
  readonly blockReadBytes: number;
  readonly blockWriteBytes: number;
  readonly pids: number;
}

/** Measures containers. */
export interface ResourceMeter {
  /** All of them in one pass; those that have ended or can't be read are left out. */
  readResources(
    containers: readonly MeasuredContainer[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, ResourceReading>>;
}

/** Something that happened to a container. */
export type SessionEngineEvent =
  | { readonly kind: 'oom'; readonly containerId: string }
  | { readonly kind: 'exited'; readonly containerId: string; readonly exitCode: number }
  | { readonly kind: 'removed'; readonly containerId: string };

/** What happens to containers. */
export interface SessionEngineEvents {
  /** From now on. Ends or throws when the daemon goes away. */
  sessionEvents(signal: AbortSignal): AsyncIterable<SessionEngineEvent>;
}

/** Where a probe goes. */
export interface ProbeTarget {
  readonly addresses: readonly string[];
  readonly pid: number | undefined;
}

/** Looks from outside whether something answers inside a container. */
export interface SessionProbes {
  /** Resolves if the port takes connections; rejects with a LonglineError that says why not. */
  probeTcp(target: ProbeTarget, port: number, limitMs: number, signal?: AbortSignal): Promise<void>;
  /** Resolves with the status of the answer to a GET. */
  probeHttp(target: ProbeTarget, port: number, path: string, limitMs: number, signal?: AbortSignal): Promise<number>;
}

/** An image on the host. */
export interface StoredImage {
  readonly id: string;
  readonly sizeBytes: number;
}

/** Disk that images lie on. */
export interface DiskSpace {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

/** Images and their disk. */
export interface SessionImages extends ImageSource {
  listImages(signal?: AbortSignal): Promise<readonly StoredImage[]>;
  /** `wrong_state` while a container is made from it; absent is no error. */
  removeImage(id: string, signal?: AbortSignal): Promise<void>;
  /** Undefined if the engine's disk can't be seen from here. */
  imageDisk(signal?: AbortSignal): Promise<DiskSpace | undefined>;
}

/** A container engine, as sessions use it. */
export interface SessionEngine
  extends SessionContainers,
    SessionNetworks,
    SessionVolumes,
    SessionProcesses,
    ResourceMeter,
    SessionEngineEvents,
    SessionImages,
    SessionProbes,
    AsyncDisposable {
  sessionFacts(signal?: AbortSignal): Promise<SessionEngineFacts>;
}

/** Where output goes: one log for each start of a session's container, counted from 1. */
export interface SessionLogs {
  open(logId: string, attempt: number): Promise<OutputLog>;
}

/** Where statuses and figures go. Never waits; what can't be sent yet is kept or replaced by newer. */
export interface SessionReports {
  /** A serialised longline.v1.SessionStatus that is newer than any before of the same session. */
  changed(sessionId: string, status: Uint8Array, forgotten: boolean): void;
  /** Serialised longline.v1.SessionTelemetry messages. */
  measured(figures: readonly { readonly sessionId: string; readonly figures: Uint8Array }[]): void;
}

/** Hears what becomes of sessions, to count it; is quick and doesn't throw. */
export interface SessionMeter {
  /** One was brought up for the first time, or was not. */
  started(tookMs: number, succeeded: boolean): void;
  woken(tier: Tier, tookMs: number, succeeded: boolean): void;
  /** It sleeps. */
  slept(tier: Tier, cause: Cause): void;
  /** Its main process ended without our doing. */
  ended(cause: Cause): void;
}
