// A caller's end of a tunnel: one call of SessionService.Tunnel, with the window kept by TunnelEnd.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TunnelRequestSchema, TunnelResponse } from '#gen/longline/fleet/v1/session_service_pb.js';
import type { TunnelTargetSchema } from '#gen/longline/v1/tunnel_pb.js';
import { Channel } from '../../core/channel.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { TunnelEnd } from '../../core/tunnel/tunnel-end.ts';
import { inwardMessage, outwardFrame } from '../../core/tunnel/tunnel-message.ts';
import type { Fleet } from '../fleet-connection.ts';
import { type SigningOptions, signedAction } from './signing.ts';

type Request = MessageInitShape<typeof TunnelRequestSchema>;

/** What to reach. */
export interface TunnelAsk {
  readonly sessionId: string;
  readonly target: NonNullable<MessageInitShape<typeof TunnelTargetSchema>['target']>;
  /** True to refuse rather than wake a session that sleeps. */
  readonly noWake: boolean;
  /** Who signs what the agent is to allow; without a key that is the controller. */
  readonly signing: SigningOptions;
}

/** An open tunnel. Dispose it to leave. */
export interface ClientTunnel extends Disposable {
  readonly tunnel: TunnelEnd;
  /** The session slept and was woken for it. */
  readonly woken: boolean;
}

/**
 * Opens a tunnel; resolves once the target is reached. Throws what the controller or agent says against it. The signal
 * ends the opening only.
 */
export async function openTunnel(fleet: Fleet, ask: TunnelAsk, signal: AbortSignal): Promise<ClientTunnel> {
  await fleet.bringUp();
  signal.throwIfAborted();
  const leaving = new AbortController();
  const requests = new Channel<Request>(4);
  const leave = () => {
    leaving.abort();
    requests.close();
    signal.removeEventListener('abort', leave);
  };
  signal.addEventListener('abort', leave, { once: true });
  const { sessionId, target, noWake, signing } = ask;
  try {
    const allowed = () => ({ case: 'tunnel' as const, value: { sessionId, target: { target } } });
    // A statement is good for one tunnel.
    const signed = await signedAction(fleet, signing, sessionId, allowed);
    requests.trySend({ message: { case: 'open', value: { sessionId, target: { target }, noWake, ...signed } } });
    const answers = fleet.streams.sessions.tunnel(requests, { signal: leaving.signal })[Symbol.asyncIterator]();
    const first = await answers.next();
    const opened = first.done ? undefined : first.value.message;
    if (opened?.case !== 'opened')
      throw new LonglineError('internal', 'the controller opened no tunnel and said no why');
    const tunnel = new TunnelEnd(async (frame) => {
      if (!(await requests.send({ message: inwardMessage(frame) }))) throw ended();
    });
    signal.removeEventListener('abort', leave);
    void receive(fleet, answers, tunnel, leaving.signal).finally(leave);
    return { tunnel, woken: opened.value.woken, [Symbol.dispose]: leave };
  } catch (error) {
    leave();
    if (signal.aborted) throw toLonglineError(signal.reason);
    throw fleet.toError(error);
  }
}

async function receive(
  fleet: Fleet,
  answers: AsyncIterator<TunnelResponse>,
  tunnel: TunnelEnd,
  left: AbortSignal,
): Promise<void> {
  try {
    for (let next = await answers.next(); !next.done; next = await answers.next()) {
      const frame = outwardFrame(next.value.message);
      if (frame !== undefined) tunnel.accept(frame);
      if (tunnel.failed.aborted) return;
    }
    tunnel.finished();
  } catch (error) {
    const reason = toLonglineError(fleet.toError(error));
    // A connection that breaks closes its streams as if they had been cancelled; unless we did, that is what happened.
    const lost = reason.reason === 'cancelled' && !left.aborted;
    tunnel.fail(lost ? new LonglineError('unavailable', lostText(fleet), { cause: error }) : reason);
  }
}

function lostText({ context }: Fleet): string {
  return `the connection to the controller at ${context.url} was lost`;
}

function ended(): LonglineError {
  return new LonglineError('unavailable', 'the tunnel was ended');
}
