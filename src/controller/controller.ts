// Composition root of `longline controller`: opens data directory, identity, store and services, and puts the front before
// them. Everything is owned by one stack and let go of in reverse order, also when a later step fails. It decides nothing
// itself. A start that can't succeed fails with a LonglineError that names the flag or file and the mend.

import { ServerReflection } from '#gen/grpc/reflection/v1/reflection_pb.js';
import { ServerReflection as ServerReflectionV1Alpha } from '#gen/grpc/reflection/v1alpha/reflection_pb.js';
import { Health } from '#gen/health/v1/health_pb.js';
import { TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { EnrollmentService } from '#gen/longline/link/v1/enrollment_pb.js';
import manifest from '../../package.json' with { type: 'json' };
import { type Clock, systemClock } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import { DescriptorIndex } from '../core/grpc-reflection.ts';
import { HealthState } from '../core/health-state.ts';
import type { Logger } from '../core/logger.ts';
import { ServiceVoice, type TellServiceManager } from '../core/service-voice.ts';
import type { Tracer } from '../core/tracer.ts';
import { createLogger, type LogLevels } from '../telemetry/logger.ts';
import { startLogExport } from '../telemetry/logs/log-export.ts';
import type { Environment } from '../telemetry/otlp/environment.ts';
import { tracePassing } from '../telemetry/tracing/trace-passing.ts';
import { startTracing, type Tracing } from '../telemetry/tracing/tracing.ts';
import { type ControllerConfig, type ControllerOptions, certificateHosts, controllerUrl } from './config.ts';
import { Front } from './front/front.ts';
import { healthService } from './front/health.ts';
import { reflectionRoutes } from './front/reflection.ts';
import type { ControllerServices, OpenServices, ServiceParts } from './front/routes.ts';
import { writeAdminContext } from './identity/admin-context.ts';
import { AgentAuthenticator } from './identity/agent-authentication.ts';
import { AgentKeys } from './identity/agent-keys.ts';
import { ApiTokens } from './identity/api-tokens.ts';
import { authorize } from './identity/authorization.ts';
import { type ControllerIdentity, openControllerIdentity } from './identity/controller-identity.ts';
import { DataDirectory } from './identity/data-directory.ts';
import { Enrollment } from './identity/enrollment.ts';
import { enrollmentRoutes, serveEnrollment } from './identity/enrollment-routes.ts';
import { tokenRoutes } from './identity/token-routes.ts';
import { LiveControllerSettings } from './live-settings.ts';
import { meteredEnrollment } from './metrics/api-meter.ts';
import { ControllerMetrics } from './metrics/controller-metrics.ts';
import { MetricsListener, metricsPages } from './metrics/metrics-pages.ts';
import { openServices } from './services/open-services.ts';
import { openSqliteStore } from './store/sqlite/sqlite-store.ts';
import type { Store } from './store/store.ts';

const VERSION: string = manifest.version;

/** A running controller. Dispose drains agents and calls within the window and lets go of everything; may be called twice. */
export interface Controller extends AsyncDisposable {
  /** "https://host:port". */
  readonly url: string;
  /** File for LONGLINE_CONTEXT. */
  readonly contextPath: string;
  readonly controllerId: string;
  /**
   * Takes over what can change while it runs, with the certificate file, and logs what can't. Never throws: if any of it is bad
   * nothing is taken. One call after the other.
   */
  reload(read: () => Promise<ControllerOptions>): Promise<void>;
  /** The one in force. */
  readonly drainWindowMs: number;
  /** Port of the plaintext listener; undefined if there is none. */
  readonly plaintextPort: number | undefined;
  /** Port for scrapers; undefined if there is none. */
  readonly metricsPort: number | undefined;
}

/** What tests put in place of the real thing. */
export interface ControllerSeams {
  readonly clock?: Clock;
  readonly log?: Logger;
  readonly openServices?: OpenServices;
}

/** Parts that identity and front are made from. */
interface Foundation {
  /** As it was at the start. What a reload may change is read from `settings`. */
  readonly config: ControllerConfig;
  readonly settings: LiveControllerSettings;
  readonly directory: DataDirectory;
  readonly identity: ControllerIdentity;
  readonly store: Store;
  readonly apiTokens: ApiTokens;
  readonly agents: AgentAuthenticator;
  readonly metrics: ControllerMetrics;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer: Tracer;
  readonly levels: LogLevels;
  readonly voice: ServiceVoice;
}

/**
 * Starts a controller and resolves once it serves.
 * @param environment where OTEL_* may ask for traces and logs, and NOTIFY_SOCKET and WATCHDOG_USEC for signs of life.
 * @param tell tells the service manager; nobody is told without.
 */
export async function runController(
  options: ControllerOptions,
  seams: ControllerSeams = {},
  environment: Environment = {},
  tell: TellServiceManager = () => undefined,
): Promise<Controller> {
  await using stack = new AsyncDisposableStack();
  const foundation = await openFoundation(options, seams, environment, tell, stack);
  const { config, directory, identity, store, apiTokens, metrics, log, voice } = foundation;
  const { controllerId } = identity;
  let front: Front | undefined;
  const open = seams.openServices ?? openServices;
  const disconnect: ServiceParts['disconnectAgent'] = (...which) => front?.disconnectAgent(...which);
  const services = stack.use(await open(serviceParts(foundation, disconnect)));
  front = await openFront(foundation, services);
  stack.use(front);
  const opened = front;
  metrics.measureConnections(() => opened.connectionCount);
  const { port } = await front.listen(config.listen.host, config.listen.port);
  const plaintextPort =
    config.plaintextListen === undefined ? undefined : await front.listenPlaintext(config.plaintextListen);
  stack.use(await metrics.send(environment, log));
  const metricsPort = await listenForScrapers(foundation, stack);
  const url = controllerUrl(config, port);
  const facts = { url, ca: identity.authority.certificatePem, controller_id: controllerId };
  const contextPath = await writeAdminContext(directory, facts, apiTokens, log);
  log.info('controller is ready', { url, controllerId, dataDir: directory.path, plaintextPort, metricsPort });
  voice.ready({
    tasks: () => [store.writes.progress, ...services.tasks()],
    status: () => `agents connected: ${services.agentsConnected()}, store: ${store.writes.failure ?? 'ok'}`,
  });
  return assembled(foundation, front, stack.move(), {
    ...{ url, contextPath, controllerId, plaintextPort, metricsPort },
  });
}

/** Where nothing is traced, the traces of callers reach their agents all the same. */
function tracerOf({ on, tracer }: Tracing): Tracer {
  return on ? tracer : tracePassing();
}

async function openFoundation(
  options: ControllerOptions,
  seams: ControllerSeams,
  environment: Environment,
  tell: TellServiceManager,
  stack: AsyncDisposableStack,
): Promise<Foundation> {
  const settings = new LiveControllerSettings(options);
  const { config } = settings;
  const levels = createLogger({ level: config.logLevel, name: 'controller', journal: environment['JOURNAL_STREAM'] });
  const { clock = systemClock, log = levels } = seams;
  const telemetry = { environment, service: 'longline-controller', version: VERSION, clock };
  const logs = stack.use(await startLogExport({ ...telemetry, log: levels }));
  const metrics = stack.use(new ControllerMetrics(clock, log));
  const voice = stack.use(new ServiceVoice({ environment, clock, log, tell, onBeat: metrics.beaten }));
  const traces = stack.use(await startTracing({ ...telemetry, log }));
  metrics.measureExports({ traces, logs });
  const directory = stack.use(await DataDirectory.open(config.dataDir));
  const identity = await openControllerIdentity(directory, certificateHosts(config), clock);
  const store = stack.use(openSqliteStore(directory.file('controller.db'), undefined, metrics.stored));
  metrics.measureStore(store.counts);
  const apiTokens = new ApiTokens(store.apiTokens, clock);
  const agents = new AgentAuthenticator(store.agentIdentities, identity.controllerId, clock);
  return {
    config,
    settings,
    directory,
    identity,
    store,
    apiTokens,
    agents,
    metrics,
    clock,
    log,
    tracer: tracerOf(traces),
    levels,
    voice,
  };
}

function serviceParts(foundation: Foundation, disconnectAgent: ServiceParts['disconnectAgent']): ServiceParts {
  const { config, settings, directory, identity, store, apiTokens, agents, metrics, clock, log, tracer } = foundation;
  return {
    ...{ store, agents, tokens: apiTokens, metrics, disconnectAgent, clock, log, tracer },
    logDirectory: directory.directory('logs'),
    controllerId: identity.controllerId,
    signingKey: identity.signingKey,
    get allowedOrigins() {
      return settings.config.allowedOrigins;
    },
    maxMessageBytes: config.limits.maxMessageBytes,
    heartbeatMs: config.heartbeatMs,
    keep: settings.keep,
  };
}

/** One reload after the other: of two at once the later must not put older settings in force. */
function reloader(foundation: Foundation, front: Pick<Front, 'renewNow'>): Controller['reload'] {
  const { voice, log } = foundation;
  let last: Promise<void> = Promise.resolve();
  return (read) => {
    const reload = async () => await takeOver(foundation, front, await read());
    last = last
      .then(async () => await voice.reload(reload))
      .catch((error: unknown) => log.error('reload refused; all stays as it was', { err: describeError(error) }));
    return last;
  };
}

async function takeOver(
  { settings, levels, log }: Foundation,
  front: Pick<Front, 'renewNow'>,
  next: ControllerOptions,
): Promise<void> {
  const { applied, refused, put } = settings.changes(next, levels.level);
  await front.renewNow();
  put();
  levels.setLevel(settings.config.logLevel);
  for (const { key, value, reason } of refused)
    log.warn('a changed setting keeps its old value', { key, value, reason });
  log.info('settings were read anew', { settings: applied });
}

/** The port for scrapers, if one is asked for. */
async function listenForScrapers({ config, metrics, log }: Foundation, stack: AsyncDisposableStack) {
  if (config.metricsListen === undefined) return undefined;
  const options = { registry: metrics.registry, log };
  return stack.use(await MetricsListener.open(config.metricsListen, options)).port;
}

function assembled(
  foundation: Foundation,
  front: Front,
  stack: AsyncDisposableStack,
  facts: Omit<Controller, typeof Symbol.asyncDispose | 'drainWindowMs' | 'reload'>,
): Controller {
  const { settings, voice, log } = foundation;
  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    const { drainWindowMs } = settings.config;
    voice.stopping();
    log.info('controller is stopping', { drainWindowMs });
    try {
      await front.shutdown(drainWindowMs, 'the controller is stopping');
    } finally {
      await stack[Symbol.asyncDispose]();
    }
    log.info('controller has stopped');
  };
  return {
    ...facts,
    reload: reloader(foundation, front),
    get drainWindowMs() {
      return settings.config.drainWindowMs;
    },
    [Symbol.asyncDispose]: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

async function openFront(foundation: Foundation, services: ControllerServices): Promise<Front> {
  const { config, directory, identity, store, apiTokens, agents, metrics, clock, log, tracer } = foundation;
  const { authority, controllerId, signingKey, serverCertificate } = identity;
  const enrolling = new Enrollment({
    tokens: store.enrollmentTokens,
    identities: store.agentIdentities,
    authority,
    signingKey,
    clock,
    log,
    certificateLifetimeMs: config.agentCertificateLifetimeMs,
  });
  const enrollment = meteredEnrollment(enrolling, metrics.registry);
  const agentKeys = new AgentKeys(store.agentIdentities, clock);
  const tokens = tokenRoutes({ repositories: store, apiTokens, agentKeys, pin: authority.pin, clock });
  const reflected = [
    ...services.operatorServices,
    TokenService,
    EnrollmentService,
    Health,
    ServerReflection,
    ServerReflectionV1Alpha,
  ];
  const index = new DescriptorIndex(reflected);
  const health = new HealthState(index.services);
  return await Front.create({
    directory,
    serverCertificate,
    clientAuthority: authority.certificatePem,
    controllerId,
    agents,
    agentRoutes: {
      register: (registry) => {
        serveEnrollment(registry, enrollment, agents, log);
        services.agentRoutes.register(registry);
      },
      drain: (windowMs, reason) => services.agentRoutes.drain(windowMs, reason),
    },
    operatorRoutes: (router) => {
      services.operatorRoutes(router);
      router.service(TokenService, tokens);
      router.service(Health, healthService(health));
      enrollmentRoutes(router, enrollment);
      reflectionRoutes(router, index);
    },
    authorize: authorize(apiTokens, clock),
    meter: metrics.calls,
    fallback: metricsPages({ registry: metrics.registry, tokens: apiTokens, log }, services.pages),
    agentPages: services.agentPages,
    upgrades: services.upgrades,
    health,
    limits: config.limits,
    clock,
    log,
    tracer,
  });
}
