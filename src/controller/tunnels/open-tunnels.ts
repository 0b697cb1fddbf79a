// Tunnels of a controller put together: the broker, SessionService's methods for them, the WebSocket endpoint and the pages.
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import type { SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import type { Clock } from '../../core/clock.ts';
import { invalid, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { Bus } from '../bus/bus.ts';
import { consolePages } from '../console/console-files.ts';
import type { RequestHandler, UpgradeHandler } from '../front/http-handlers.ts';
import type { ApiTokens } from '../identity/api-tokens.ts';
import { callerOf } from '../identity/authorization.ts';
import { apiSecretOf, hashSecret } from '../identity/secrets.ts';
import type { TunnelRegistry } from '../link/tunnel-registry.ts';
import type { StatementSigner } from '../signer/statement-signer.ts';
import type { Store } from '../store/store.ts';
import { checkOffered, findReachable } from './session-lookup.ts';
import { TunnelBroker } from './tunnel-broker.ts';
import { serveTunnelCall } from './tunnel-call.ts';
import { DEFAULT_TUNNEL_LIMITS, type TunnelLimits } from './tunnel-limits.ts';
import { TunnelSockets } from './tunnel-sockets.ts';
import { type Bearer, TunnelTickets } from './tunnel-tickets.ts';

/** What tunnels are made from. */
export interface TunnelParts {
  readonly store: Store;
  readonly bus: Bus;
  readonly registry: TunnelRegistry;
  readonly signer: StatementSigner;
  readonly tokens: ApiTokens;
  /** Asked at each use: a reload may change them. */
  readonly allowedOrigins: () => readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
  readonly limits?: Partial<TunnelLimits>;
}

/** The ways in. */
export interface Tunnels {
  readonly methods: Pick<ServiceImpl<typeof SessionService>, 'tunnel' | 'createTunnelTicket'>;
  readonly upgrades: UpgradeHandler;
  readonly pages: RequestHandler;
}

/** Puts them together. */
export function openTunnels(parts: TunnelParts): Tunnels {
  const { store, bus, registry, signer, tokens, allowedOrigins, clock, log, tracer } = parts;
  const limits = { ...DEFAULT_TUNNEL_LIMITS, ...parts.limits };
  const broker = new TunnelBroker({ store, bus, registry, signer, clock, log, tracer, limits });
  const tickets = new TunnelTickets(tokens, clock, limits);
  const call = { broker, clock, firstMessageMs: limits.firstMessageMs, recheckMs: limits.pingMs };
  const bearerOf = (context: HandlerContext): Bearer => {
    const hash = hashSecret(apiSecretOf(context.requestHeader.get('authorization')));
    return { caller: callerOf(context), recheck: async () => void (await tokens.recheck(hash)) };
  };
  return {
    methods: {
      tunnel: (requests, context) => serveTunnelCall(call, requests, bearerOf(context), context.signal),
      async createTunnelTicket({ sessionId, port: asked }, context) {
        const session = await findReachable(store, sessionId);
        const port = asked === 0 ? session.screenPort : asked;
        if (port === undefined) {
          throw new LonglineError('wrong_state', `session ${sessionId} has no screen; name a port that it offers`);
        }
        if (port > 65_535) throw invalid([{ field: 'port', description: `is ${port}; must be 1 to 65535` }]);
        checkOffered(session, port);
        const authorization = context.requestHeader.get('authorization');
        const { ticket, expiresAtMs } = tickets.issue(sessionId, port, callerOf(context), authorization);
        const viewPath = `/sessions/${encodeURIComponent(sessionId)}/view#port=${port}&ticket=${ticket}`;
        return { ticket, expireTime: timestampFromMs(expiresAtMs), viewPath, port };
      },
    },
    upgrades: new TunnelSockets({ broker, tokens, tickets, allowedOrigins, limits, log }),
    pages: consolePages(log),
  };
}
