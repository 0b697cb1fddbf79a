// What identity needs from storage, and nothing more. The store implements it (SQLite, later PostgreSQL); tests hold
// every implementation to test/controller/identity/repository-contract.ts. Times are milliseconds since the epoch; hashes
// are 32 bytes of SHA-256. A write is durable when its promise resolves. Failures of storage are LonglineError
// `unavailable`. Records handed in or out are never changed afterwards by either side.

/** What a caller of the public API may do; each role includes the ones before it. */
export type Role = 'viewer' | 'operator' | 'admin';

/** A part of a listing that is newest first, which is: by id, descending (ids are UUIDv7). */
export interface PageRequest {
  /** Most records wanted, 1 to 1001. */
  readonly limit: number;
  /** Only records with a lower id; undefined starts at the newest. */
  readonly beforeId: string | undefined;
}

/** A registration token without its secret. */
export interface EnrollmentTokenRecord {
  readonly id: string;
  readonly secretHash: Uint8Array;
  readonly usesTotal: number;
  readonly usesLeft: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Only this agent may be enrolled with it; empty for any. */
  readonly agentId: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly revoked: boolean;
}

/** Registration tokens. Uses are taken by `AgentIdentityRepository.save`, in one transaction with the identity. */
export interface EnrollmentTokenRepository {
  insert(record: EnrollmentTokenRecord): Promise<void>;
  findByHash(secretHash: Uint8Array): Promise<EnrollmentTokenRecord | undefined>;
  list(page: PageRequest): Promise<readonly EnrollmentTokenRecord[]>;
  /** False if there is no such token. Revoking twice changes nothing. */
  revoke(id: string): Promise<boolean>;
}

/** An API token without its secret. */
export interface ApiTokenRecord {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly secretHash: Uint8Array;
  readonly createdAtMs: number;
  /** Undefined for never. */
  readonly expiresAtMs: number | undefined;
  /** Undefined before the first use. */
  readonly usedAtMs: number | undefined;
  readonly revoked: boolean;
}

/** API tokens. */
export interface ApiTokenRepository {
  insert(record: ApiTokenRecord): Promise<void>;
  findByHash(secretHash: Uint8Array): Promise<ApiTokenRecord | undefined>;
  list(page: PageRequest): Promise<readonly ApiTokenRecord[]>;
  /** False if there is no such token. Revoking twice changes nothing. */
  revoke(id: string): Promise<boolean>;
  /** Notes a use. Never moves the time back; an unknown id changes nothing. */
  touch(id: string, usedAtMs: number): Promise<void>;
}

/** A client certificate that may still be used. */
export interface IssuedCertificate {
  /** Serial number, lower-case hex without leading zeros. */
  readonly serial: string;
  readonly expiresAtMs: number;
  /** The replica that it was given to, as that named itself at its enrolment. */
  readonly instanceId: string;
  /** Id of the registration token that this replica enrolled with; empty if it is not known. */
  readonly tokenId: string;
}

/** Who an agent is, as far as credentials go. One per agent id. */
export interface AgentIdentity {
  readonly agentId: string;
  /** The replica that enrolled last, as it named itself. */
  readonly instanceId: string;
  /** Labels bound to the token it enrolled with. The store shows them as labels set through the API. */
  readonly labels: Readonly<Record<string, string>>;
  /** First enrolment; kept over re-enrolments. */
  readonly enrolledAtMs: number;
  /** Id of the registration token used last; empty if the identity was made by other means. */
  readonly enrollmentTokenId: string;
  /** SHA-256 of the SubjectPublicKeyInfo (DER) of the newest certificate; undefined for one with an API key only. */
  readonly publicKeyHash: Uint8Array | undefined;
  /** Every certificate that is accepted from it, of all replicas, newest last. Others are refused, even if signed by our CA. */
  readonly certificates: readonly IssuedCertificate[];
  /** SHA-256 of the API key's 64 characters; undefined if it has none. */
  readonly apiKeyHash: Uint8Array | undefined;
  readonly revoked: boolean;
  /** Grows by one with every save; the first is 1. */
  readonly version: number;
}

/** A change of an identity that takes effect whole or not at all. */
export interface IdentityChange {
  /** To be stored; `version` is the one found before plus one. 1 means: there must be none yet. */
  readonly identity: AgentIdentity;
  /** Take one use of this registration token in the same transaction; undefined takes none. */
  readonly spendTokenId: string | undefined;
  /** For the token's expiry, and the time of the change. */
  readonly nowMs: number;
}

/** What became of a change. */
export type IdentityChangeOutcome =
  /** Stored; the use, if any, is taken. */
  | 'saved'
  /** The identity's stored version isn't `identity.version - 1`. Nothing was changed. */
  | 'conflict'
  /** The token is unknown, revoked, expired or has no use left. Nothing was changed. */
  | 'token_spent';

/** What became of a replica's revocation. */
export type ReplicaRevocation =
  /** Its certificates and the registration tokens that it enrolled with are good for nothing now. */
  | 'revoked'
  /** It has no certificate that still lives, or there is no such agent. */
  | 'missing'
  /** The agent would have no credentials left, and its id be anybody's. Nothing was changed. */
  | 'last';

/**
 * Identities of agents. The record of an agent (labels, state, facts) belongs to the store; deleting an agent there
 * deletes its identity too, and `save` with version 1 creates the agent's record if there is none.
 */
export interface AgentIdentityRepository {
  find(agentId: string): Promise<AgentIdentity | undefined>;
  /** `conflict` is decided before `token_spent`. */
  save(change: IdentityChange): Promise<IdentityChangeOutcome>;
  /** Sets `revoked` for good and counts the version up. False if there is no such agent. Revoking twice changes nothing. */
  revoke(agentId: string): Promise<boolean>;
  /** Takes a replica's certificates from an agent and counts the version up. */
  revokeReplica(agentId: string, instanceId: string, nowMs: number): Promise<ReplicaRevocation>;
}

/** All repositories of identity, as the store hands them over. */
export interface IdentityRepositories {
  readonly enrollmentTokens: EnrollmentTokenRepository;
  readonly apiTokens: ApiTokenRepository;
  readonly agentIdentities: AgentIdentityRepository;
}
