// Signed heads as they travel on the link.
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type AuditCheckpoint as AuditCheckpointMessage,
  AuditCheckpointSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { SignatureAlgorithm } from '#gen/longline/v1/signature_pb.js';
import type { AuditCheckpoint } from '../../core/audit/audit-checkpoint.ts';
import { CHECKPOINT_PAYLOAD_TYPE } from '../../core/signing/signature.ts';

/** The message that carries a checkpoint to the controller. */
export function checkpointMessage(checkpoint: AuditCheckpoint): AuditCheckpointMessage {
  return create(AuditCheckpointSchema, {
    chainId: checkpoint.chainId,
    sequence: BigInt(checkpoint.sequence),
    head: checkpoint.head,
    time: timestampFromMs(checkpoint.timeMs),
    signed: {
      payloadType: CHECKPOINT_PAYLOAD_TYPE,
      payload: checkpoint.payload,
      signatures: [{ keyId: checkpoint.keyId, algorithm: SignatureAlgorithm.ED25519, value: checkpoint.signature }],
    },
    publicKey: checkpoint.publicKey,
  });
}
