// The controller's port: one address for agents, operators, services and browsers. What the TLS handshake showed decides
// who gets a connection: a client certificate of ours leads to the agents' stack, or over HTTP/1.1 to the pages for agents; none
// leads to the operators'. A client
// certificate that is foreign, expired or revoked is refused: every call answers UNAUTHENTICATED and says why.
// It knows no service by name. Failures of one connection never touch another.
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { Interceptor } from '@connectrpc/connect';
import type { Clock } from '../../core/clock.ts';
import { describeError, type LonglineError, toLonglineError } from '../../core/errors.ts';
import type { HealthState } from '../../core/health-state.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import { type AgentAuthenticator, unverified } from '../identity/agent-authentication.ts';
import type { DataDirectory } from '../identity/data-directory.ts';
import type { ServerCertificate } from '../identity/server-certificate.ts';
import { AgentStack } from './agent-stack.ts';
import type { RequestHandler, UpgradeHandler } from './http-handlers.ts';
import type { FrontLimits } from './limits.ts';
import { OperatorStack } from './operator-stack.ts';
import { createRequestHandler, shutdownReason } from './request-handler.ts';
import type { AgentRoutes, OperatorRoutes } from './routes.ts';
import { TicketKeys } from './ticket-keys.ts';
import { TlsPort } from './tls-port.ts';

/** How often certificate file and ticket keys are looked at. */
const RENEWAL_CHECK_MS = 60_000;

/** What the front is made from. */
export interface FrontOptions {
  readonly directory: DataDirectory;
  readonly serverCertificate: ServerCertificate;
  /** CA that agents' certificates are verified with, PEM. */
  readonly clientAuthority: string;
  readonly controllerId: string;
  readonly agents: AgentAuthenticator;
  readonly agentRoutes: AgentRoutes;
  readonly operatorRoutes: OperatorRoutes;
  readonly authorize: Interceptor;
  /** Counts calls of operators. */
  readonly meter?: Interceptor;
  readonly fallback?: RequestHandler | undefined;
  /** Answers what agents ask over HTTP/1.1, and nothing else does. */
  readonly agentPages?: RequestHandler | undefined;
  readonly upgrades?: UpgradeHandler | undefined;
  readonly health: HealthState;
  readonly limits: FrontLimits;
  readonly clock: Clock;
  readonly log: Logger;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
  readonly renewalCheckMs?: number;
}

/** Where the front listens. */
export interface FrontAddress {
  readonly host: string;
  readonly port: number;
}

/** The running front. Dispose closes everything at once; `shutdown` does it gently. */
export class Front implements AsyncDisposable {
  readonly #options: FrontOptions;
  readonly #port: TlsPort;
  readonly #agents: AgentStack;
  readonly #operators: OperatorStack;
  readonly #ticketKeys: TicketKeys;
  readonly #stopping = new AbortController();
  #ticketKey: Buffer;
  /** What new connections are shown. */
  #credentials: string;
  #renewal: NodeJS.Timeout | undefined;
  #renewing: Promise<void> | undefined;

  private constructor(options: FrontOptions, ticketKeys: TicketKeys, ticketKey: Buffer, credentials: string) {
    const { limits, clock, log } = options;
    this.#options = options;
    this.#ticketKeys = ticketKeys;
    this.#ticketKey = ticketKey;
    this.#credentials = credentials;
    const handler = createRequestHandler({
      routes: options.operatorRoutes,
      authorize: options.authorize,
      meter: options.meter,
      fallback: options.fallback,
      agentPages: options.agentPages,
      limits,
      shutdown: this.#stopping.signal,
      tracer: options.tracer,
      log,
    });
    const { upgrades } = options;
    this.#operators = new OperatorStack({ handler, upgrades, limits, clock, log });
    this.#stopping.signal.addEventListener('abort', () => upgrades?.[Symbol.dispose](), { once: true });
    this.#agents = new AgentStack({
      ...{ limits, log, tracer: options.tracer },
      register: (registry) => options.agentRoutes.register(registry),
      onHttp1: (socket) => this.#operators.injectAgents(socket, 'by_api_key'),
    });
    this.#port = new TlsPort({
      credentials,
      clientAuthority: options.clientAuthority,
      ticketKeys: ticketKey,
      sessionContext: options.controllerId.replaceAll('-', ''),
      limits,
      clock,
      log,
      onSecure: (socket) => this.#route(socket),
    });
  }

  /** Makes a front that doesn't listen yet. */
  static async create(options: FrontOptions): Promise<Front> {
    const ticketKeys = new TicketKeys(options.directory, options.clock);
    const { pem } = await options.serverCertificate.current();
    return new Front(options, ticketKeys, await ticketKeys.current(), pem);
  }

  /** Listens for everybody, over TLS. Throws `unavailable` if the address can't be bound. */
  async listen(host: string, port: number): Promise<FrontAddress> {
    const bound = await this.#port.listen(host, port);
    const everyMs = this.#options.renewalCheckMs ?? RENEWAL_CHECK_MS;
    this.#renewal = setInterval(() => {
      this.#renewing ??= this.#renew().finally(() => {
        this.#renewing = undefined;
      });
    }, everyMs).unref();
    return { host: bound.address, port: bound.port };
  }

  /** Listens for agents with API keys, without TLS; gives the port. */
  async listenPlaintext(address: FrontAddress): Promise<number> {
    return await this.#agents.listenPlaintext(address);
  }

  /** Cuts the connections of an agent, or of one replica of it, as after a revocation. */
  disconnectAgent(agentId: string, instanceId?: string): void {
    this.#agents.disconnect(agentId, instanceId);
  }

  /** Connections that are open, for metrics and tests. */
  get connectionCount(): number {
    return this.#port.connectionCount;
  }

  /**
   * Says it isn't serving, accepts no more, asks agents to leave within the window, lets operators' calls end in the same
   * time, then closes. Takes at most `windowMs` and a little.
   */
  async shutdown(windowMs: number, reason: string): Promise<void> {
    this.#options.health.setAll(false);
    this.#port.stopAccepting();
    this.#agents.stopAccepting();
    const streamsEnd = setTimeout(() => this.#stopping.abort(shutdownReason()), windowMs / 2);
    await Promise.all([this.#options.agentRoutes.drain(windowMs, reason), this.#operators.drain(windowMs)]);
    clearTimeout(streamsEnd);
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#renewal);
    await this.#renewing;
    this.#stopping.abort(shutdownReason());
    this.#agents[Symbol.dispose]();
    await this.#operators[Symbol.asyncDispose]();
    await this.#port[Symbol.asyncDispose]();
  }

  #route(socket: TLSSocket): void {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) {
      this.#operators.inject(socket);
      return;
    }
    if (!socket.authorized) {
      this.#refuse(socket, unverified(certificate, String(socket.authorizationError)));
      return;
    }
    this.#options.agents.verify(certificate).then(
      (agent) => {
        if (socket.destroyed) return;
        if (socket.alpnProtocol !== 'h2') {
          this.#agents.hold(socket, agent);
          this.#operators.injectAgents(socket, certificate);
          return;
        }
        holdCertificate(socket, certificate.raw);
        this.#agents.inject(socket, agent);
      },
      (error: unknown) => this.#refuse(socket, toLonglineError(error)),
    );
  }

  #refuse(socket: TLSSocket, error: LonglineError): void {
    if (socket.destroyed) return;
    this.#options.log.warn('client certificate refused', { peer: socket.remoteAddress, why: describeError(error) });
    this.#operators.inject(socket, error);
  }

  /** Takes over the certificate file if it is another. Throws `invalid` if it can't be used; the one in use stays. */
  async renewNow(): Promise<void> {
    await this.#renewing;
    await this.#takeOver();
  }

  async #renew(): Promise<void> {
    try {
      await this.#takeOver();
    } catch (error) {
      this.#options.log.error('server certificate or ticket keys can not be renewed; those in use stay', {
        err: describeError(error),
      });
    }
  }

  async #takeOver(): Promise<void> {
    const { log, serverCertificate } = this.#options;
    await serverCertificate.refresh();
    // Not what the refresh gave: it gives nothing new where an earlier one was followed by a failure.
    const { pem, expiresAtMs } = await serverCertificate.current();
    const ticketKeys = await this.#ticketKeys.current();
    const isOther = pem !== this.#credentials;
    if (!isOther && ticketKeys.equals(this.#ticketKey)) return;
    this.#port.renew({ credentials: pem, ticketKeys });
    this.#credentials = pem;
    this.#ticketKey = ticketKeys;
    if (isOther) log.info('server certificate in use', { expires: new Date(expiresAtMs).toISOString() });
  }
}

/** grpc-js asks for the peer's certificate with every call, which takes it apart anew; only its bytes are looked at here. */
function holdCertificate(socket: TLSSocket, raw: Buffer): void {
  socket.getPeerCertificate = () => ({ raw }) as DetailedPeerCertificate;
}
