// Frames of a tunnel as the agent sends and receives them on AgentLinkService.Tunnel. Pure.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type TunnelRequest, TunnelRequestSchema, type TunnelResponse } from '#gen/longline/link/v1/link_pb.js';
import { LonglineError } from '../core/errors.ts';
import type { TunnelFrame } from '../core/tunnel/tunnel-frame.ts';

type RequestInit = NonNullable<MessageInitShape<typeof TunnelRequestSchema>['message']>;

/** A frame as it goes to the controller. Throws `internal` for one that goes the other way only. */
export function tunnelRequest(frame: TunnelFrame): TunnelRequest {
  return create(TunnelRequestSchema, { message: requestMessage(frame) });
}

function requestMessage(frame: TunnelFrame): RequestInit {
  switch (frame.kind) {
    case 'data':
      return { case: 'data', value: frame.data };
    case 'stderr':
      return { case: 'stderr', value: frame.data };
    case 'half_close':
      return { case: 'halfClose', value: {} };
    case 'window':
      return { case: 'window', value: { taken: BigInt(frame.taken) } };
    case 'exit':
      return { case: 'exit', value: { code: frame.code, signal: frame.signal } };
    default:
      throw new LonglineError('internal', `an agent sends no "${frame.kind}"`);
  }
}

/** A frame of the controller; undefined for a kind that this version doesn't know. */
export function tunnelFrame({ message }: TunnelResponse): TunnelFrame | undefined {
  switch (message.case) {
    case 'data':
      return { kind: 'data', data: message.value };
    case 'halfClose':
      return { kind: 'half_close' };
    case 'window':
      return { kind: 'window', taken: Number(message.value.taken) };
    case 'resize':
      return { kind: 'resize', size: { columns: message.value.columns, rows: message.value.rows } };
    case 'signal':
      return { kind: 'signal', signal: message.value.name };
    default:
      return undefined;
  }
}
