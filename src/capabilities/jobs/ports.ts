// What the jobs capability needs from outside. src/platform/docker serves ContainerEngine, the agent hands in the rest.
// Nothing here knows Docker, Podman or the link. What sessions need just the same stands in src/core.
import type { ImageSource } from '../../core/images/image.ts';
import type { OutputLog, OutputPiece } from '../../core/output/output-log.ts';

export type {
  CredentialSource,
  ImageFacts,
  PullProgress,
  RegistryCredentials,
} from '../../core/images/image.ts';
export type { ClosedStream, GapReason, OutputLog, OutputPiece, StreamName } from '../../core/output/output-log.ts';

/** What the engine is and can do. */
export interface EngineFacts {
  readonly kind: 'docker' | 'podman';
  readonly version: string;
  /** OCI runtimes by name. */
  readonly runtimes: readonly string[];
  readonly defaultRuntime: string;
}

/** A mount into a container. */
export interface ContainerMount {
  readonly source: string;
  readonly target: string;
  readonly writable: boolean;
}

/** Everything needed to create a container; no defaults are added by the engine adapter. */
export interface ContainerSpec {
  readonly name: string;
  readonly image: string;
  /** Replaces the image's entry point and command. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Empty takes the image's. */
  readonly workingDir: string;
  readonly user: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly openStdin: boolean;
  readonly cpus: number;
  /** Memory and swap together. */
  readonly memoryBytes: number;
  readonly pids: number;
  /** Size of the noexec, nosuid tmpfs at /tmp. */
  readonly tmpBytes: number;
  /** Further folders that get such a tmpfs of the same size; left out for none. */
  readonly tmpFolders?: readonly string[];
  readonly network: { readonly mode: 'none' | 'bridge' | 'host' } | { readonly mode: 'named'; readonly name: string };
  readonly mounts: readonly ContainerMount[];
  /** Linux capabilities on top of none, without the CAP_ prefix. */
  readonly addCapabilities: readonly string[];
  readonly readOnlyRoot: boolean;
  readonly noNewPrivileges: boolean;
  /** Empty takes the engine's default. */
  readonly runtime: string;
  /** The engine keeps at least this much output for recovery after a crash. */
  readonly keepLogBytes: number;
}

/** A container as the engine sees it. */
export interface ContainerFacts {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';
  readonly image: string;
  /** Undefined until it has exited. */
  readonly exitCode: number | undefined;
  readonly oomKilled: boolean;
  readonly startedAtMs: number | undefined;
  readonly finishedAtMs: number | undefined;
  /** The engine's word on why it couldn't start; empty if none. */
  readonly error: string;
}

/** Resources used so far. */
export interface ContainerUsage {
  readonly cpuNanos: number;
  /** 0 if it isn't known. */
  readonly memoryPeakBytes: number;
}

/** A live connection to a container's standard streams. The owner must destroy it. */
export interface Attachment {
  /** Ends when the container's output ends; throws LonglineError `unavailable` if the connection broke. One reader. */
  readonly output: AsyncIterable<OutputPiece>;
  /** Resolves when the engine's socket took the bytes. Rejects if the container's input is closed. */
  writeInput(data: Uint8Array): Promise<void>;
  /** Closes the container's standard input. */
  endInput(): Promise<void>;
  /** Idempotent; must come before a kill of a container whose output isn't read (moby#41827). */
  destroy(): void;
}

/** A container that was seen to end. */
export interface ContainerExit {
  readonly exitCode: number;
}

/** Something the engine reported. */
export type EngineEvent =
  | { readonly kind: 'oom'; readonly containerId: string }
  | { readonly kind: 'exited'; readonly containerId: string; readonly exitCode: number };

/**
 * A container engine. Every call has a time limit of its own and takes a signal. Errors are LonglineErrors:
 * `unavailable` when the daemon can't be reached, `not_found` for unknown containers and images, `already_exists` for a
 * taken name, `invalid` for what the engine refuses as malformed, `limit` for a full disk.
 */
export interface ContainerEngine extends ImageSource, AsyncDisposable {
  facts(signal?: AbortSignal): Promise<EngineFacts>;
  createContainer(spec: ContainerSpec, signal?: AbortSignal): Promise<string>;
  /** Attach before start, or output is lost. */
  attach(id: string, withInput: boolean, signal?: AbortSignal): Promise<Attachment>;
  /** Resolves once the wait is armed; its `exit` resolves when the container ends. Arm before start. */
  armExit(id: string, signal?: AbortSignal): Promise<{ readonly exit: Promise<ContainerExit> }>;
  start(id: string, signal?: AbortSignal): Promise<void>;
  /** Sends a signal such as "SIGTERM". A container that has ended already is no error. */
  kill(id: string, signalName: string, signal?: AbortSignal): Promise<void>;
  inspect(id: string, signal?: AbortSignal): Promise<ContainerFacts | undefined>;
  /** Removes it with its anonymous volumes, killing it if it runs. Absent is no error. */
  remove(id: string, signal?: AbortSignal): Promise<void>;
  /** Containers, in any state, that carry this label with this value. */
  list(label: string, value: string, signal?: AbortSignal): Promise<readonly ContainerFacts[]>;
  /** All output kept by the engine from its first byte, in order per stream; goes on until it ends if `follow`. */
  readLogs(id: string, follow: boolean, signal?: AbortSignal): AsyncIterable<OutputPiece>;
  /** What happens to containers from now on. Ends or throws when the daemon goes away. */
  events(signal: AbortSignal): AsyncIterable<EngineEvent>;
  /** Undefined if the container has ended or the engine doesn't tell. */
  usage(id: string, signal?: AbortSignal): Promise<ContainerUsage | undefined>;
}

/** Where output goes. */
export interface OutputLogs {
  /** Opens or reopens the log of an execution; a reopened one goes on where the durable bytes end. */
  open(executionId: string): Promise<OutputLog>;
}

/** Looks at paths of this host. */
export interface HostPaths {
  /** The path with all links resolved; undefined if there is nothing. */
  resolve(path: string): string | undefined;
}
