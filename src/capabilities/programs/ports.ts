// What the programs capability needs of a host: a kernel that takes BPF programs, artifacts from wherever they are, keys that
// signatures are checked with, and whoever wants to hear of it besides the controller.

import type { LonglineError } from '../../core/errors.ts';
import type { ArtifactKey } from '../../core/programs/artifact-key.ts';
import type { AttachPoint } from '../../core/programs/attach-point.ts';
import type { ArtifactCounter } from '../../core/programs/metadata.ts';
import type { ProgramStateName, RollbackTrigger } from '../../core/programs/program-state.ts';
import type { ProgramType } from '../../core/programs/program-type.ts';
import type { FunctionRequest, ParameterWrite } from '../../core/programs/resolved-spec.ts';
import type { ProgramFigures } from './figures.ts';

export type { ArtifactKey } from '../../core/programs/artifact-key.ts';
export type { AttachPoint } from '../../core/programs/attach-point.ts';
export type { ArtifactCounter } from '../../core/programs/metadata.ts';
export type { ParameterValue } from '../../core/programs/parameter.ts';
export type { ProgramStateName, RollbackTrigger } from '../../core/programs/program-state.ts';
export type { ParameterType, ProgramType } from '../../core/programs/program-type.ts';
export type { FunctionRequest, ParameterWrite } from '../../core/programs/resolved-spec.ts';
export type { ProgramFigures } from './figures.ts';

/** Whether functions of a type can be had on this host. */
export interface TypeSupport {
  readonly type: ProgramType;
  /** Why not, with the mend; undefined if they can. */
  readonly missing: string | undefined;
  /** True if a next revision takes over a place without a gap or an overlap. */
  readonly atomic: boolean;
}

/** What the kernel of this host can do. */
export interface KernelSupport {
  /** "6.1.0". */
  readonly release: string;
  /** Why nothing can be loaded at all, with the mend; undefined if something can. */
  readonly missing: string | undefined;
  readonly types: readonly TypeSupport[];
  /** Of the host: changes with each boot. */
  readonly bootId: string;
}

/** A revision of a program, by which it is found again. Everything of it carries the agent's instance id in its path. */
export interface RevisionPlace {
  readonly program: string;
  /** From 1. */
  readonly revision: number;
}

/** A revision to load. */
export interface LoadRequest {
  readonly place: RevisionPlace;
  /** ELF object. */
  readonly object: Uint8Array;
  readonly functions: readonly FunctionRequest[];
  readonly writes: readonly ParameterWrite[];
  /** Revision whose maps are used again where name, type, key, value and size match; undefined for none. */
  readonly carryFrom: RevisionPlace | undefined;
  /** Maps that are made anew even so. */
  readonly freshMaps: readonly string[];
  /** Of this host, so that a leftover of an earlier try is told from somebody else's. */
  readonly objectSha256: string;
}

/** A function that is loaded. */
export interface FoundFunction {
  readonly name: string;
  readonly id: number;
}

/** A map that is loaded. */
export interface FoundMap {
  readonly name: string;
  readonly id: number;
}

/** A revision that is loaded and pinned. */
export interface FoundRevision {
  readonly place: RevisionPlace;
  readonly functions: readonly FoundFunction[];
  readonly maps: readonly FoundMap[];
}

/** What came of loading. A refusal leaves nothing behind. */
export type LoadOutcome =
  | { readonly kind: 'loaded'; readonly revision: FoundRevision; readonly carriedMaps: readonly string[] }
  /** The verifier refused a function; its log is whole up to 64 KiB of its end. */
  | { readonly kind: 'refused'; readonly error: LonglineError; readonly verifierLog: string };

/** An attachment that is there. */
export interface FoundLink {
  readonly program: string;
  /** Name that it was given: letters, digits and "_", at most 63. */
  readonly slot: string;
  /** 0 for one without a link (clsact). */
  readonly linkId: number;
  /** Of the function that runs there now. */
  readonly programId: number;
  /** True if its interface or control group is gone, so that nothing runs any more. */
  readonly gone: boolean;
}

/** A function to attach. */
export interface AttachOrder {
  readonly place: RevisionPlace;
  readonly function: string;
  readonly type: ProgramType;
  readonly point: AttachPoint;
  readonly slot: string;
}

/** All of ours of one program that is pinned. */
export interface FoundProgram {
  readonly program: string;
  readonly revisions: readonly FoundRevision[];
  readonly links: readonly FoundLink[];
}

/** What a function has done since it was loaded. */
export interface FunctionStats {
  readonly name: string;
  readonly runs: bigint;
  readonly runTimeNs: bigint;
}

/** What a revision has done since it was loaded. Runs are counted only while somebody holds statistics on. */
export interface RevisionStats {
  readonly functions: readonly FunctionStats[];
  /** Of functions and maps. */
  readonly memoryBytes: number;
}

/** Records of a ring buffer as they come. */
export interface EventStream extends Disposable {
  /** Records that came since; at most `most`, in order. Never waits. */
  take(most: number): readonly Uint8Array[];
}

/**
 * The kernel's side. Only what carries our instance id is ever touched. Every call ends within a limit of the adapter's, and
 * throws a LonglineError that names interface, hook, map or variable: `invalid` for what doesn't fit the object (field
 * violations by parameter), `not_found` for an interface, control group, symbol or hook that isn't there, `policy` for missing
 * privileges, `unsupported` for what this kernel can't do, `already_exists` for a place that somebody else has.
 */
export interface Kernel {
  /** Probes, and mounts the BPF file system if it isn't. Leaves nothing else behind. */
  support(signal?: AbortSignal): Promise<KernelSupport>;
  /** Everything of ours that is there. What is broken (a folder without its functions) is listed with what it has. */
  list(signal?: AbortSignal): Promise<readonly FoundProgram[]>;
  /** Loads and pins; attaches nothing. A leftover of the same place goes first. */
  load(request: LoadRequest, signal?: AbortSignal): Promise<LoadOutcome>;
  /** Attaches and pins the link under its slot. If the slot is there already, it is made to run this function. */
  attach(order: AttachOrder, signal?: AbortSignal): Promise<FoundLink>;
  /** Has a link of an atomic type run another revision's function from one packet to the next. */
  replace(order: AttachOrder, signal?: AbortSignal): Promise<FoundLink>;
  /** Nothing happens if it isn't there. */
  detach(program: string, slot: string, signal?: AbortSignal): Promise<void>;
  /** Lets go of functions and maps of a revision. Nothing happens if it isn't there. */
  unload(place: RevisionPlace, signal?: AbortSignal): Promise<void>;
  /** Values in the order of the counters; undefined for one that can't be read. */
  readCounters(
    place: RevisionPlace,
    counters: readonly ArtifactCounter[],
    signal?: AbortSignal,
  ): Promise<readonly (bigint | undefined)[]>;
  stats(place: RevisionPlace, signal?: AbortSignal): Promise<RevisionStats>;
  /** Has the kernel count runs of all programs of the host until it is disposed. Costs each some 20 to 70 ns. */
  holdStatistics(): Disposable;
  openEvents(place: RevisionPlace, map: string): EventStream;
}

/** Where an artifact comes from. */
export type ArtifactOrigin = 'controller' | 'registry' | 'local';

/** Artifacts on this host, fetched as they are needed and kept by digest. */
export interface Artifacts {
  /**
   * Bytes of artifact.tar.zst with this digest, "sha256:…"; fetched if they aren't here, from where an earlier try ended. Throws
   * `not_found`, `unavailable`, `late`, `limit` (too large, or no room), `invalid` (other bytes came than the digest says).
   */
  get(digest: string, origin: ArtifactOrigin, signal: AbortSignal): Promise<Uint8Array>;
  /** Drops all but these. */
  keepOnly(digests: ReadonlySet<string>): Promise<void>;
}

/** Keys of this host, from wherever they are. */
export interface ArtifactKeys {
  /** All that can be had, also from a copy on disk. Throws `unavailable` naming the sources if there is nothing to go by. */
  keys(signal: AbortSignal): Promise<readonly ArtifactKey[]>;
  /** Changes whenever keys() would give others. */
  readonly version: string;
}

/** What a registry lists and nobody can make sense of. */
export interface RefusedListing {
  /** What the registry calls it, for people. */
  readonly item: string;
  /** Name of the program, where that much is known: what runs of it stays as it is. */
  readonly program?: string | undefined;
  readonly error: LonglineError;
}

/** What one poll of a registry gave. */
export type RegistryAnswer =
  | { readonly kind: 'unchanged' }
  /** Serialised longline.v1.ProgramSpec, one for each program of this host, and what could not be made sense of. */
  | {
      readonly kind: 'programs';
      readonly specs: readonly Uint8Array[];
      readonly refused: readonly RefusedListing[];
    };

/** A registry that is polled. */
export interface Registry {
  /** Throws `unavailable` or `late`: what was said before stands. */
  poll(signal: AbortSignal): Promise<RegistryAnswer>;
}

/** A program as it is told of. */
export interface AnnouncedProgram {
  /** Its name on this host. */
  readonly program: string;
  /** "sha256:…"; empty if nothing was loaded. */
  readonly artifact: string;
  /** In the metadata; empty if nothing was loaded. */
  readonly version: string;
  /** From 1; 0 if nothing was loaded. */
  readonly revision: number;
  readonly state: ProgramStateName;
}

/** What a program did between two looks. */
export interface AnnouncedFigures extends AnnouncedProgram {
  readonly figures: ProgramFigures;
}

/** A rollback as it is told of. */
export interface AnnouncedRollback {
  readonly id: string;
  readonly trigger: RollbackTrigger;
  /** 0 where there is no threshold. */
  readonly threshold: number;
  readonly value: number;
  /** For people. */
  readonly reason: string;
  /** A command id, "local", "nats"; empty if the agent itself did. */
  readonly requestedBy: string;
  /** Milliseconds since the epoch. */
  readonly timeMs: number;
  /** What runs instead; undefined if the program was unloaded. */
  readonly toArtifact: string | undefined;
  /** At that time, if there were any. */
  readonly figures: ProgramFigures | undefined;
  /** Set if it did not come about. */
  readonly error: string | undefined;
}

/** Something that became of a program. */
export type AnnouncedChange =
  | (AnnouncedProgram & { readonly what: 'loaded' | 'unloaded' })
  /** `error` is for people. */
  | (AnnouncedProgram & { readonly what: 'error'; readonly error: string })
  /** The program is what was left, not what runs now. */
  | (AnnouncedProgram & { readonly what: 'rolled_back'; readonly rollback: AnnouncedRollback });

/** Who hears of programs beside the controller. Calls are quick and don't throw; what can't be sent is counted and dropped. */
export interface Announcements {
  measured(telemetry: readonly AnnouncedFigures[]): void;
  changed(change: AnnouncedChange): void;
  /** Programs that are loaded. */
  heartbeat(loaded: number): void;
}

/** Where figures for the controller go. Calls are quick and don't throw. */
export interface ProgramReports {
  /** Serialised longline.v1.ProgramTelemetry; may be dropped or coalesced. */
  measured(telemetry: Uint8Array): void;
}

/** A rollback that somebody asks for who is no controller. At least one of program and artifact is given. */
export interface RollbackRequest {
  /** Undefined for whichever runs the artifact. */
  readonly program: string | undefined;
  /** "sha256:…"; undefined for whichever runs. */
  readonly artifact: string | undefined;
  /** For people; at most 1024 characters. */
  readonly reason: string;
  /** "nats" or "local". */
  readonly requestedBy: string;
}

/**
 * Goes back to the revision before and tells how that ended. Throws a LonglineError: `not_found` where no such program runs,
 * `wrong_state` where another artifact does.
 */
export type RollbackHandler = (request: RollbackRequest, signal: AbortSignal) => Promise<AnnouncedRollback>;
