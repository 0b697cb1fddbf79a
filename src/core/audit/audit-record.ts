// What an audit record is, down to the byte. Pure.
//
// Canonical bytes of a record: for each field, in the order of AUDIT_FIELDS, its length in bytes in decimal, ":", its bytes
// as UTF-8 (numbers in decimal), and ",". So no two records have the same bytes, whatever their fields hold.
// Hash of a record: SHA-256 of the 32 bytes of the hash before it, then the canonical bytes. The hash before the first is
// SHA-256 of "longline-audit-chain-v1:" and the chain id.
import { hash } from 'node:crypto';

/** What happened. */
export type AuditEvent = (typeof AUDIT_EVENTS)[number];

/** All that are recorded. */
export const AUDIT_EVENTS = [
  'received',
  'admitted',
  'refused',
  'started',
  'ended',
  'cancelled',
  'policy_reloaded',
  'enrolled',
  'agent_started',
  'agent_stopped',
] as const;

/** A record without its place in the chain. Empty texts where a field doesn't apply. */
export interface AuditFields {
  /** Milliseconds since the epoch, by the agent's clock. */
  readonly timeMs: number;
  readonly event: string;
  readonly commandId: string;
  readonly controllerId: string;
  readonly keyId: string;
  readonly capability: string;
  /** "succeeded", "invalid", …: an Outcome or the reason of a refusal. */
  readonly outcome: string;
  /** Policy rule or check that decided. */
  readonly rule: string;
  /** JSON object; never holds a secret, hashes at most. */
  readonly summary: string;
}

/** A record in its chain, counted from 1. */
export interface AuditRecord extends AuditFields {
  readonly sequence: number;
}

/** Fields of the canonical bytes, in order, by their column names. */
export const AUDIT_FIELDS = [
  'sequence',
  'time_ms',
  'event',
  'command_id',
  'controller_id',
  'key_id',
  'capability',
  'outcome',
  'rule',
  'summary',
] as const;

/** Bytes of a hash. */
export const HASH_BYTES = 32;

/** The hash that the first record of a chain follows. */
export function chainStart(chainId: string): Uint8Array {
  return hash('sha256', `longline-audit-chain-v1:${chainId}`, 'buffer');
}

/** Canonical bytes of a record. */
export function canonicalBytes(record: AuditRecord): Buffer {
  const fields = [
    String(record.sequence),
    String(record.timeMs),
    record.event,
    record.commandId,
    record.controllerId,
    record.keyId,
    record.capability,
    record.outcome,
    record.rule,
    record.summary,
  ];
  return Buffer.from(fields.map((field) => `${Buffer.byteLength(field)}:${field},`).join(''));
}

/** The hash of the record whose canonical bytes these are, after `previous`. */
export function chainHash(previous: Uint8Array, canonical: Uint8Array): Buffer {
  return hash('sha256', Buffer.concat([previous, canonical]), 'buffer');
}
