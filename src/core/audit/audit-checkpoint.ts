// Signed heads of an audit chain. Kept by the controller they show what a host's own file can't: that its end was cut off,
// or that it was written anew. Signed as DSSE over JSON with the keys in the order of `CheckpointClaims`. Pure.
import { ed25519PublicKeyFault } from '../signing/ed25519-public-key.ts';
import { CHECKPOINT_PAYLOAD_TYPE, ed25519VerificationKey, signPayload, verifyPayload } from '../signing/signature.ts';
import type { SigningKey } from '../signing/signing-key.ts';

/** A signed head. */
export interface AuditCheckpoint {
  readonly chainId: string;
  /** Last record covered, counted from 1. */
  readonly sequence: number;
  readonly head: Uint8Array;
  /** When it was signed, milliseconds since the epoch. */
  readonly timeMs: number;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  readonly keyId: string;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** The signed JSON. */
interface CheckpointClaims {
  readonly chain_id: string;
  readonly sequence: number;
  /** Lower-case hex. */
  readonly head: string;
  /** RFC 3339 with milliseconds, UTC. */
  readonly time: string;
}

/** Signs a head with an Ed25519 key. */
export function signCheckpoint(
  key: SigningKey,
  head: { readonly chainId: string; readonly sequence: number; readonly head: Uint8Array; readonly timeMs: number },
): AuditCheckpoint {
  if (key.publicKey === undefined) throw new TypeError('audit checkpoints are signed with Ed25519 only');
  const claims: CheckpointClaims = {
    chain_id: head.chainId,
    sequence: head.sequence,
    head: Buffer.from(head.head).toString('hex'),
    time: new Date(head.timeMs).toISOString(),
  };
  const payload = new TextEncoder().encode(JSON.stringify(claims));
  const signature = signPayload(key, CHECKPOINT_PAYLOAD_TYPE, payload);
  return { ...head, payload, signature, keyId: key.keyId, publicKey: key.publicKey };
}

/** What is wrong with a checkpoint by itself; undefined if its signature holds and covers what it says. */
export function checkpointFault(checkpoint: Omit<AuditCheckpoint, 'keyId'>): string | undefined {
  const keyFault = ed25519PublicKeyFault(checkpoint.publicKey);
  if (keyFault !== undefined) return `its public key ${keyFault}`;
  const key = ed25519VerificationKey(checkpoint.publicKey);
  if (!verifyPayload(key, CHECKPOINT_PAYLOAD_TYPE, checkpoint.payload, checkpoint.signature)) {
    return 'its signature is wrong';
  }
  let claims: Partial<CheckpointClaims>;
  try {
    claims = JSON.parse(Buffer.from(checkpoint.payload).toString('utf8'));
  } catch {
    return 'what it signs is no JSON';
  }
  const agrees =
    claims.chain_id === checkpoint.chainId &&
    claims.sequence === checkpoint.sequence &&
    claims.head === Buffer.from(checkpoint.head).toString('hex');
  return agrees ? undefined : 'what it signs is not what stands beside it';
}
