// Statements for tests: right in every way unless told otherwise.
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { JobSpecSchema } from '#gen/longline/v1/job_pb.js';
import {
  SignatureAlgorithm,
  type SignedPayload,
  SignedPayloadSchema,
  StatementSchema,
} from '#gen/longline/v1/signature_pb.js';
import type { TrustEntry } from '../../../src/agent/trust/trust-file.ts';
import { ed25519VerificationKey, STATEMENT_PAYLOAD_TYPE, signPayload } from '../../../src/core/signing/signature.ts';
import type { SigningKey } from '../../../src/core/signing/signing-key.ts';

export const NOW_MS = Date.UTC(2026, 0, 2, 3, 4, 5);

let nonces = 0;

export function nonce(): Uint8Array {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint32(0, ++nonces);
  return bytes;
}

/** Serialised statement that runs a job. */
export function statementBytes(
  changes: MessageInitShape<typeof StatementSchema> = {},
  spec: MessageInitShape<typeof JobSpecSchema> = { argv: ['id'] },
): Uint8Array {
  return toBinary(
    StatementSchema,
    create(StatementSchema, {
      nonce: nonce(),
      controllerId: 'main',
      audience: { agentIds: ['web-1'] },
      issueTime: timestampFromMs(NOW_MS - 1000),
      expireTime: timestampFromMs(NOW_MS + 60_000),
      action: { action: { case: 'job', value: { action: { case: 'run', value: spec } } } },
      ...changes,
    } as MessageInitShape<typeof StatementSchema>),
  );
}

/** Signs with every key given; none makes an unsigned payload. */
export function signed(payload: Uint8Array, ...keys: readonly SigningKey[]): SignedPayload {
  return create(SignedPayloadSchema, {
    payloadType: STATEMENT_PAYLOAD_TYPE,
    payload,
    signatures: keys.map((key) => ({
      keyId: key.keyId,
      algorithm: key.algorithm === 'ed25519' ? SignatureAlgorithm.ED25519 : SignatureAlgorithm.HMAC_SHA256,
      value: signPayload(key, STATEMENT_PAYLOAD_TYPE, payload),
    })),
  });
}

/** Trust in a key for the controller "main" and jobs. */
export function trustIn(key: SigningKey, changes: Partial<TrustEntry> = {}): TrustEntry {
  return {
    keyId: key.keyId,
    verification:
      key.publicKey === undefined
        ? { algorithm: 'hmac-sha256', secret: key.secret }
        : ed25519VerificationKey(key.publicKey),
    controllers: ['main'],
    capabilities: ['jobs'],
    selectors: [],
    scopes: [],
    notAfterMs: undefined,
    source: 'trust.toml',
    ...changes,
  };
}
