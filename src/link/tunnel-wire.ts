// Frames of a tunnel as the agent sends and receives them on AgentLinkService.Tunnel. Pure.
import { create } from '@bufbuild/protobuf';
import { type TunnelRequest, TunnelRequestSchema, type TunnelResponse } from '#gen/longline/link/v1/link_pb.js';
import type { TunnelFrame } from '../core/tunnel/tunnel-frame.ts';
import { inwardFrame, outwardMessage } from '../core/tunnel/tunnel-message.ts';

/** A frame as it goes to the controller. Throws `internal` for one that goes the other way only. */
export function tunnelRequest(frame: TunnelFrame): TunnelRequest {
  return create(TunnelRequestSchema, { message: outwardMessage(frame) });
}

/** A frame of the controller; undefined for a kind that this version doesn't know. */
export function tunnelFrame({ message }: TunnelResponse): TunnelFrame | undefined {
  return inwardFrame(message);
}
