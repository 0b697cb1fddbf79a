// Statements in the controller's name: who may do what, to whom, and when, signed so that agents can tell. Statements that
// were signed elsewhere never come here: their bytes travel as they are.
import { randomBytes } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type Action,
  SignatureAlgorithm,
  SignedPayloadSchema,
  StatementSchema,
} from '#gen/longline/v1/signature_pb.js';
import { preAuthEncoding } from '../../core/dsse.ts';

/** Payload type of a Statement. */
export const STATEMENT_TYPE = 'application/vnd.longline.statement.v1+protobuf';

/** Size of the nonces made here. */
const NONCE_BYTES = 24;

/** A key that signs with Ed25519. */
export interface SigningKey {
  readonly keyId: string;
  /** Signature over exactly these bytes: 64 bytes. */
  sign(bytes: Uint8Array): Uint8Array;
}

/** What is to be signed. */
export interface StatementRequest {
  readonly action: Action;
  readonly agentIds: readonly string[];
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

/** Makes signed statements. */
export class StatementSigner {
  readonly #key: SigningKey;
  readonly #controllerId: string;

  constructor(key: SigningKey, controllerId: string) {
    this.#key = key;
    this.#controllerId = controllerId;
  }

  /** A serialised SignedPayload with a nonce of its own. */
  sign({ action, agentIds, issuedAtMs, expiresAtMs }: StatementRequest): Uint8Array {
    const statement = create(StatementSchema, {
      nonce: randomBytes(NONCE_BYTES),
      controllerId: this.#controllerId,
      audience: { agentIds: [...agentIds] },
      issueTime: timestampFromMs(issuedAtMs),
      expireTime: timestampFromMs(expiresAtMs),
      action,
    });
    const payload = toBinary(StatementSchema, statement);
    const value = this.#key.sign(preAuthEncoding(STATEMENT_TYPE, payload));
    const signed = create(SignedPayloadSchema, {
      payloadType: STATEMENT_TYPE,
      payload,
      signatures: [{ keyId: this.#key.keyId, algorithm: SignatureAlgorithm.ED25519, value }],
    });
    return toBinary(SignedPayloadSchema, signed);
  }
}
