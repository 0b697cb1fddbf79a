// SessionService.Tunnel: a caller's end of a tunnel over one bidirectional call. The window is kept as on the link, so that
// a caller that stops reading holds a window of bytes here and no more.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  type TunnelRequest,
  type TunnelResponse,
  TunnelResponseSchema,
} from '#gen/longline/fleet/v1/session_service_pb.js';
import { Channel } from '../../core/channel.ts';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { TunnelEnd } from '../../core/tunnel/tunnel-end.ts';
import { inwardFrame, outwardMessage } from '../../core/tunnel/tunnel-message.ts';
import type { TunnelBroker } from './tunnel-broker.ts';
import type { Bearer } from './tunnel-tickets.ts';

type ResponseInit = NonNullable<MessageInitShape<typeof TunnelResponseSchema>['message']>;

/** Frames that wait for the connection; each waits for the one before, so there are never more than a few. */
const OUT_CAPACITY = 4;

/** What a call needs. */
export interface TunnelCallParts {
  readonly broker: TunnelBroker;
  readonly clock: Clock;
  readonly firstMessageMs: number;
  /** Between looks at whether the caller's token still holds. */
  readonly recheckMs: number;
}

/** Serves one call. */
export async function* serveTunnelCall(
  parts: TunnelCallParts,
  requests: AsyncIterable<TunnelRequest>,
  bearer: Bearer,
  signal: AbortSignal,
): AsyncGenerator<TunnelResponse> {
  const incoming = requests[Symbol.asyncIterator]();
  const open = await firstMessage(parts, incoming);
  const out = new Channel<TunnelResponse>(OUT_CAPACITY);
  const client = new TunnelEnd(async (frame) => {
    if (!(await out.send(response(outwardMessage(frame))))) throw left();
  });
  // Also at shutdown, which has a reason of its own.
  const leave = () => client.fail(isShutdown(signal.reason) ? stopping() : left());
  signal.addEventListener('abort', leave, { once: true });
  const ask = {
    sessionId: open.sessionId,
    target: open.target,
    noWake: open.noWake,
    signed: open.signed,
    caller: bearer.caller,
    via: 'rpc' as const,
  };
  const watch = setInterval(() => void recheck(bearer, client), parts.recheckMs);
  const work = parts.broker
    .carry(ask, signal, (facts) => {
      out.trySend(response({ case: 'opened', value: facts }));
      void receive(incoming, client);
      return client;
    })
    .then(
      () => out.close(),
      (error: unknown) => out.fail(error),
    );
  try {
    yield* out;
  } finally {
    clearInterval(watch);
    signal.removeEventListener('abort', leave);
    leave();
    await work;
  }
}

/** Ends the tunnel of a token that holds no more: the answers alone tell nothing where only the caller speaks. */
async function recheck(bearer: Bearer, client: TunnelEnd): Promise<void> {
  try {
    await bearer.recheck();
  } catch (error) {
    // A store that can't be asked now says nothing of the token, and is asked again.
    if (error instanceof LonglineError && error.reason === 'identity') client.fail(error);
  }
}

async function firstMessage({ clock, firstMessageMs }: TunnelCallParts, incoming: AsyncIterator<TunnelRequest>) {
  const over = new AbortController();
  const late = clock.sleep(firstMessageMs, over.signal).then(() => {
    throw new LonglineError('late', `the first message of a tunnel must come within ${firstMessageMs} ms`);
  });
  late.catch(() => undefined);
  try {
    const first = await Promise.race([incoming.next(), late]);
    const message = first.done ? undefined : first.value.message;
    if (message?.case === 'open') return message.value;
    throw new LonglineError(
      'wrong_state',
      `the first message of a tunnel must be open, it was ${message?.case ?? 'none'}`,
    );
  } finally {
    over.abort();
  }
}

/** Gives the tunnel what the caller sends, until it stops sending or leaves. */
async function receive(incoming: AsyncIterator<TunnelRequest>, client: TunnelEnd): Promise<void> {
  try {
    for (let next = await incoming.next(); !next.done; next = await incoming.next()) {
      const frame = inwardFrame(next.value.message);
      if (frame !== undefined) client.accept(frame);
      if (client.failed.aborted) return;
    }
    // The end of the requests is the caller's half-close, said in another way; it goes on reading.
    client.accept({ kind: 'half_close' });
  } catch (error) {
    client.fail(
      error instanceof LonglineError ? error : new LonglineError('cancelled', 'the caller left', { cause: error }),
    );
  }
}

function response(message: ResponseInit): TunnelResponse {
  return create(TunnelResponseSchema, { message });
}

function isShutdown(reason: unknown): boolean {
  return reason instanceof ConnectError && reason.code === Code.Unavailable;
}

function stopping(): LonglineError {
  return new LonglineError('unavailable', 'the controller is stopping; open the tunnel again');
}

function left(): LonglineError {
  return new LonglineError('cancelled', 'the caller left');
}
