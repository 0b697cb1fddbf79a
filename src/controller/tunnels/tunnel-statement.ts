// The statement that lets an agent open a tunnel, signed by the controller: for this session and target, and for as long as
// opening may take.
import { create, fromBinary } from '@bufbuild/protobuf';
import { ActionSchema, type SignedPayload, SignedPayloadSchema } from '#gen/longline/v1/signature_pb.js';
import type { TunnelTarget } from '#gen/longline/v1/tunnel_pb.js';
import type { StatementSigner } from '../signer/statement-signer.ts';

/** What is allowed, to whom, and until when. */
export interface TunnelGrant {
  readonly sessionId: string;
  readonly agentId: string;
  readonly target: TunnelTarget;
  readonly nowMs: number;
  readonly expiresAtMs: number;
}

/** Signs a grant. */
export function tunnelStatement(signer: StatementSigner, grant: TunnelGrant): SignedPayload {
  const { sessionId, agentId, target, nowMs, expiresAtMs } = grant;
  const tunnel = { action: { case: 'tunnel' as const, value: { sessionId, target } } };
  const action = create(ActionSchema, { action: { case: 'session', value: tunnel } });
  const bytes = signer.sign({ action, agentIds: [agentId], issuedAtMs: nowMs, expiresAtMs });
  return fromBinary(SignedPayloadSchema, bytes);
}
