// What an artifact says of itself, as plain values, by the shape of longline.v1.ProgramMetadata and not by generated code: agent,
// controller and command line read it, each with its own slice of the contract.
import type { AttachRequest } from './attach-point.ts';
import type { ParameterType, ProgramType } from './program-type.ts';

/** A BPF function of the object. */
export interface ArtifactFunction {
  readonly name: string;
  readonly type: ProgramType;
  /** Where it is attached if the spec doesn't say; each is meant for this function. */
  readonly attach: readonly AttachRequest[];
}

/** Where a parameter goes. Keys are numbers for keys of at most 8 bytes, else hex. */
export type ParameterTarget =
  | { readonly kind: 'variable'; readonly variable: string }
  | { readonly kind: 'map'; readonly map: string; readonly key: string }
  /** `maxKeys` undefined: what the map holds. */
  | { readonly kind: 'key_set'; readonly map: string; readonly maxKeys: number | undefined };

/** Something that can be set. */
export interface ArtifactParameter {
  readonly name: string;
  readonly description: string;
  readonly type: ParameterType;
  readonly target: ParameterTarget;
  readonly min: bigint | undefined;
  readonly max: bigint | undefined;
  readonly choices: readonly string[];
  /** Undefined for none: then the object's own value stays, unless `required`. */
  readonly defaultText: string | undefined;
  readonly required: boolean;
}

/** A number in a value of a map. */
export interface ArtifactCounter {
  readonly map: string;
  readonly key: string;
  readonly offset: number;
  readonly size: 4 | 8;
}

/** A field of an event record. */
export interface EventField {
  readonly name: string;
  readonly type: ParameterType;
  readonly offset: number;
  readonly size: number;
}

/** A ring buffer with events. */
export interface ArtifactEvents {
  readonly map: string;
  readonly type: string;
  readonly fields: readonly EventField[];
  readonly perSecond: number;
}

/** Thresholds as far as somebody set them. 0 turns one off. */
export interface ThresholdDraft {
  readonly maxErrors?: number | undefined;
  readonly maxViolations?: number | undefined;
  readonly maxCpuPercent?: number | undefined;
  readonly maxLatencyMs?: number | undefined;
  readonly maxMemoryKb?: number | undefined;
  readonly minRuns?: number | undefined;
}

/** All of it, checked. */
export interface ArtifactMetadata {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  /** 64 hex digits. */
  readonly objectSha256: string;
  readonly objectSize: number;
  readonly functions: readonly ArtifactFunction[];
  readonly parameters: readonly ArtifactParameter[];
  readonly counters: {
    readonly packets: ArtifactCounter | undefined;
    readonly violations: ArtifactCounter | undefined;
    readonly errors: ArtifactCounter | undefined;
    readonly others: Readonly<Record<string, ArtifactCounter>>;
  };
  readonly events: readonly ArtifactEvents[];
  readonly thresholds: ThresholdDraft;
  /** "5.15"; undefined for any. */
  readonly minimumKernel: string | undefined;
  /** Undefined leaves it to the host; 0 for ever. */
  readonly ttlMs: number | undefined;
  readonly freshMaps: readonly string[];
  /** Milliseconds since the epoch; undefined for never. */
  readonly expiresAtMs: number | undefined;
}
