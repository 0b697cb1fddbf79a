// The controller's end of one Tunnel call of an agent: its messages as frames, with the window kept by TunnelEnd.
import { create } from '@bufbuild/protobuf';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { type TunnelRequest, type TunnelResponse, TunnelResponseSchema } from '#gen/longline/link/v1/link_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { TunnelEnd } from '../../core/tunnel/tunnel-end.ts';
import type { TunnelFrame } from '../../core/tunnel/tunnel-frame.ts';
import { inwardMessage, outwardFrame } from '../../core/tunnel/tunnel-message.ts';
import { errorFromWire } from './wire.ts';

/** A Tunnel call as grpc-js gives it. */
export type TunnelCall = ServerDuplexStream<TunnelRequest, TunnelResponse>;

/** Takes the call over after its first message. Reading needs no pauses: the window bounds what an agent may send. */
export function agentTunnel(call: TunnelCall, agentId: string): TunnelEnd {
  const tunnel = new TunnelEnd((frame) => send(call, frame));
  const lost = () =>
    tunnel.fail(
      new LonglineError('unavailable', `the connection of agent ${agentId} was lost, or it ended the tunnel`),
    );
  call.on('data', (request: TunnelRequest) => take(tunnel, request));
  call.once('end', () => tunnel.finished());
  call.once('cancelled', lost);
  call.on('error', lost);
  if (call.cancelled) lost();
  call.resume();
  return tunnel;
}

function take(tunnel: TunnelEnd, { message }: TunnelRequest): void {
  if (message.case === 'failed') tunnel.fail(errorFromWire(message.value));
  else if (message.case === 'open') tunnel.fail(new LonglineError('invalid', 'the agent opened a tunnel twice'));
  else {
    const frame = outwardFrame(message);
    if (frame !== undefined) tunnel.accept(frame);
  }
}

async function send(call: TunnelCall, frame: TunnelFrame): Promise<void> {
  if (call.cancelled || call.destroyed) throw gone();
  if (call.write(create(TunnelResponseSchema, { message: inwardMessage(frame) }))) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const events = ['drain', 'close', 'cancelled', 'error'] as const;
  for (const event of events) call.once(event, resolve);
  await promise;
  for (const event of events) call.off(event, resolve);
  if (call.cancelled || call.destroyed) throw gone();
}

function gone(): LonglineError {
  return new LonglineError('unavailable', 'the agent ended the tunnel');
}
