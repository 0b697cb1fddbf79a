// What the controller has to know of a kind of desired state to keep, compare and send it. One file per kind beside this.
import { createHash } from 'node:crypto';
import type { DesiredState, DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import type { Action } from '#gen/longline/v1/signature_pb.js';

/** What a statement permits: one body as one generation. */
export interface StatePermit {
  readonly generation: bigint;
  readonly baseGeneration: bigint;
  /** 32 bytes. */
  readonly bodySha256: Uint8Array;
}

/** One kind of desired state. `T` is its body message. All functions are pure. */
export interface StateBody<T> {
  readonly kind: DesiredStateKind;
  /** What is wanted of an agent of which nothing was ever wanted. */
  empty(): T;
  /** Canonical form of a full state: the same state gives the same bytes. */
  encode(state: T): Uint8Array;
  decode(body: Uint8Array): T;
  /** The delta that makes `to` of `from`. Both are full states. */
  diff(from: T, to: T): T;
  /** What a delta makes of a full state. Throws `invalid` if it isn't for that. */
  apply(base: T, delta: T): T;
  /** Bytes of a delta. */
  encodeDelta(delta: T): Uint8Array;
  /** The field of DesiredState for a body or delta. */
  field(body: T): DesiredState['body'];
  /** The action that permits a body; undefined for a kind that can't be signed. */
  permit(permit: StatePermit): Action | undefined;
}

/** First 16 bytes of the SHA-256 of a canonical body. */
export function bodyDigest(body: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(body).digest().subarray(0, 16));
}
