// Statements that were signed elsewhere: what they say and what is wrong with their form. Whether a signature holds, the
// agent judges; their bytes travel as they are. Pure.
import { fromBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Selector } from '#gen/longline/v1/agent_pb.js';
import { type Action, type SignedPayload, type Statement, StatementSchema } from '#gen/longline/v1/signature_pb.js';
import type { FieldViolation } from '../../core/errors.ts';
import { STATEMENT_TYPE } from '../signer/statement-signer.ts';

/** A statement as far as it could be read. */
export interface ForeignStatement {
  readonly violations: readonly FieldViolation[];
  /** Undefined if it is no statement, or does nothing. */
  readonly action: Action | undefined;
  readonly audience: Selector | undefined;
  readonly expiresAtMs: number;
}

function parse(signed: SignedPayload, path: string): Statement | FieldViolation {
  if (signed.payloadType !== STATEMENT_TYPE) {
    const description = `'${signed.payloadType.slice(0, 100)}' must be '${STATEMENT_TYPE}'`;
    return { field: `${path}.payload_type`, description };
  }
  if (signed.signatures.length === 0) return { field: `${path}.signatures`, description: 'is empty; sign the payload' };
  try {
    return fromBinary(StatementSchema, signed.payload);
  } catch {
    return { field: `${path}.payload`, description: 'is no longline.v1.Statement' };
  }
}

/** Reads a statement; `path` is where it lies in the request. */
export function readForeign(signed: SignedPayload, path: string, nowMs: number): ForeignStatement {
  const statement = parse(signed, path);
  if ('field' in statement) {
    return { violations: [statement], action: undefined, audience: undefined, expiresAtMs: 0 };
  }
  const payload = `${path}.payload`;
  const violations: FieldViolation[] = [];
  const { nonce, audience, expireTime, action } = statement;
  if (nonce.length < 16 || nonce.length > 64) {
    violations.push({ field: `${payload}.nonce`, description: `has ${nonce.length} bytes; must have 16 to 64` });
  }
  if (audience === undefined) {
    violations.push({ field: `${payload}.audience`, description: 'is missing; name the agents it is meant for' });
  }
  const expiresAtMs = expireTime === undefined ? 0 : timestampMs(expireTime);
  if (expiresAtMs <= nowMs) {
    const description = 'is missing or has passed; sign the statement anew';
    violations.push({ field: `${payload}.expire_time`, description });
  }
  if (action === undefined) violations.push({ field: `${payload}.action`, description: 'is missing' });
  return { violations, action, audience, expiresAtMs };
}
