// Meshes, their members and the rotations of members' keys. A mesh changes as a whole: whoever changes it says which revision
// it read, and is refused if there is a newer one by now.
import type { Page, PageQuery } from './page.ts';

/** A mesh. Times are milliseconds since the epoch. */
export interface MeshRecord {
  readonly name: string;
  /** Serialised MeshSpec without members. */
  readonly spec: Uint8Array;
  /** Grows with every change of mesh, members or rotations. */
  readonly revision: number;
  /** Grows with every change that may alter what a member's network is to be. */
  readonly layout: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly removing: boolean;
}

/** A member of a mesh. */
export interface MeshMemberRecord {
  readonly agentId: string;
  /** "host:port" in canonical form; empty if others can't reach it. */
  readonly endpoint: string;
  /** Address that was asked for; empty for any. */
  readonly wantedAddress: string;
  readonly hub: boolean;
  /** Canonical prefixes. */
  readonly routes: readonly string[];
  readonly nat: boolean;
  /** Address as a prefix of its full length, "10.100.0.7/32". */
  readonly address: string;
  /** Subnet for containers; empty for none. */
  readonly subnet: string;
  /** Hub that it reaches the others through; empty for a hub, and in a full mesh. */
  readonly home: string;
  /** Key in use. */
  readonly keyEpoch: number;
  /** Highest epoch that was ever asked of it. */
  readonly lastEpoch: number;
  /** Public key of `keyEpoch`; empty until the agent said so. */
  readonly publicKey: string;
  /** When that key came into use; 0 if it isn't known. */
  readonly keySinceMs: number;
  /** Its network is being taken away, and nobody has it as a peer any more. */
  readonly leaving: boolean;
}

/** What a member had that left, so that it gets it again if it comes back before somebody else needs it. */
export interface MeshRest {
  readonly agentId: string;
  readonly address: string;
  readonly subnet: string;
  readonly leftAtMs: number;
}

/** Step of a rotation: waiting for its turn, making the key, the four of mesh/rotation.ts, over. */
export type KeyRotationStep = 'queued' | 'prepare' | 'stage' | 'switch' | 'move' | 'remove' | 'done';

/** The key of one member being replaced. */
export interface KeyRotationRecord {
  /** UUIDv7: the order of ids is that of beginning. */
  readonly id: string;
  readonly mesh: string;
  readonly agentId: string;
  readonly step: KeyRotationStep;
  readonly undoing: boolean;
  readonly oldEpoch: number;
  readonly newEpoch: number;
  readonly oldKey: string;
  /** Empty until it is known. */
  readonly newKey: string;
  /** Members that have it as a peer, from `stage` on. */
  readonly peers: readonly string[];
  readonly waitingFor: readonly string[];
  readonly startedAtMs: number;
  /** Undefined while it goes on. */
  readonly endedAtMs: number | undefined;
}

/** A mesh with all that belongs to it: one moment of it. */
export interface MeshState {
  readonly mesh: MeshRecord;
  /** Ordered by agent id. */
  readonly members: readonly MeshMemberRecord[];
  readonly resting: readonly MeshRest[];
  /** Those that haven't ended, oldest first. */
  readonly rotations: readonly KeyRotationRecord[];
}

/** A change of a mesh. What is left out stays. */
export interface MeshChange {
  readonly name: string;
  /** Revision that was read; 0 if there must be no such mesh. */
  readonly baseRevision: number;
  readonly nowMs: number;
  /** True if networks of members may have to change. */
  readonly newLayout: boolean;
  /** True if it is one that the mesh's owner asked for, and so its update time. */
  readonly asked: boolean;
  readonly spec?: Uint8Array;
  readonly removing?: boolean;
  readonly putMembers?: readonly MeshMemberRecord[];
  readonly removedMembers?: readonly string[];
  readonly putResting?: readonly MeshRest[];
  readonly removedResting?: readonly string[];
  readonly putRotations?: readonly KeyRotationRecord[];
}

/** What became of a change: the new revision, or that there is a newer one than was read. */
export type MeshOutcome = { readonly kind: 'stored'; readonly revision: number } | { readonly kind: 'conflict' };

/** Which rotations to list. */
export interface KeyRotationQuery extends PageQuery {
  /** Empty for all. */
  readonly mesh: string;
  readonly active: boolean;
}

/** Meshes, ordered by name. */
export interface MeshRepository {
  get(name: string): Promise<MeshState | undefined>;
  list(page: PageQuery): Promise<Page<string>>;
  /** Meshes that an agent is a member of. */
  ofAgent(agentId: string): Promise<readonly string[]>;
  commit(change: MeshChange): Promise<MeshOutcome>;
  /** Forgets a mesh that has no members, with its rotations. False if it has some, or another revision. */
  delete(name: string, baseRevision: number): Promise<boolean>;
  getRotation(id: string): Promise<KeyRotationRecord | undefined>;
  /** Newest first. */
  listRotations(query: KeyRotationQuery): Promise<Page<KeyRotationRecord>>;
  /** Forgets rotations that ended before. How many. */
  deleteEndedRotations(beforeMs: number, limit: number): Promise<number>;
}
