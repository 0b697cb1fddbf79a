// The controller's end of one Tunnel call of an agent: its messages as frames, with the window kept by TunnelEnd.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { type TunnelRequest, type TunnelResponse, TunnelResponseSchema } from '#gen/longline/link/v1/link_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { TunnelEnd } from '../../core/tunnel/tunnel-end.ts';
import type { TunnelFrame } from '../../core/tunnel/tunnel-frame.ts';
import { errorFromWire } from './wire.ts';

/** A Tunnel call as grpc-js gives it. */
export type TunnelCall = ServerDuplexStream<TunnelRequest, TunnelResponse>;

type ResponseInit = NonNullable<MessageInitShape<typeof TunnelResponseSchema>['message']>;

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
    const frame = frameOf(message);
    if (frame !== undefined) tunnel.accept(frame);
  }
}

/** Undefined for a kind of a later version. */
function frameOf(message: TunnelRequest['message']): TunnelFrame | undefined {
  switch (message.case) {
    case 'data':
    case 'stderr':
      return { kind: message.case, data: message.value };
    case 'halfClose':
      return { kind: 'half_close' };
    case 'window':
      return { kind: 'window', taken: Number(message.value.taken) };
    case 'exit':
      return { kind: 'exit', code: message.value.code, signal: message.value.signal };
    default:
      return undefined;
  }
}

async function send(call: TunnelCall, frame: TunnelFrame): Promise<void> {
  if (call.cancelled || call.destroyed) throw gone();
  if (call.write(create(TunnelResponseSchema, { message: responseMessage(frame) }))) return;
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

function responseMessage(frame: TunnelFrame): ResponseInit {
  switch (frame.kind) {
    case 'data':
      return { case: 'data', value: frame.data };
    case 'half_close':
      return { case: 'halfClose', value: {} };
    case 'window':
      return { case: 'window', value: { taken: BigInt(frame.taken) } };
    case 'resize':
      return { case: 'resize', value: { columns: frame.size.columns, rows: frame.size.rows } };
    case 'signal':
      return { case: 'signal', value: { name: frame.signal } };
    default:
      throw new LonglineError('internal', `a controller sends no "${frame.kind}" to an agent`);
  }
}
