// The services of a controller put together: link, dispatch, log store, bus and the services for operators. To wire it, give
// `openServices` to the composition root as its OpenServices: register `agentRoutes` on the agents' stack and
// `operatorRoutes` on the Connect stack, serve, and at shutdown drain `agentRoutes`, stop the front, dispose this, dispose
// the store. Knows no sockets. Opening fails with the store's or the log folder's own error.
import type { ConnectRouter } from '@connectrpc/connect';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { JobService } from '#gen/longline/fleet/v1/job_service_pb.js';
import { NetworkService } from '#gen/longline/fleet/v1/network_service_pb.js';
import { ProgramService } from '#gen/longline/fleet/v1/program_service_pb.js';
import { SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import type { TelemetryRequest } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../../core/clock.ts';
import { liveView } from '../../core/config/changed-settings.ts';
import { Progress } from '../../core/progress.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { Bus } from '../bus/bus.ts';
import { MemoryBus } from '../bus/memory/memory-bus.ts';
import { fleetTopic, programsTopic } from '../bus/topics.ts';
import { DEFAULT_RETENTION, type RetentionOptions, runSweeper } from '../dispatch/sweeper.ts';
import type { ControllerServices, ServiceParts } from '../front/routes.ts';
import { DEFAULT_LINK_OPTIONS, type LinkOptions } from '../link/link-options.ts';
import { LinkServer } from '../link/link-server.ts';
import { FileLogStore } from '../logs/file-log-store.ts';
import { MeshDriver } from '../mesh/mesh-driver.ts';
import { NO_LINK_METER } from '../metrics/link-meter.ts';
import type { PolledPrograms } from '../programs/polled-programs.ts';
import { pollProgramsOf } from '../rollouts/polled-programs.ts';
import { RolloutDriver } from '../rollouts/rollout-driver.ts';
import { StatementSigner } from '../signer/statement-signer.ts';
import { openTunnels } from '../tunnels/open-tunnels.ts';
import type { TunnelLimits } from '../tunnels/tunnel-limits.ts';
import { createAgentService } from './agent-service.ts';
import { createJobService } from './job-service.ts';
import { NetworkFiguresCache } from './network-figures.ts';
import { createNetworkService } from './network-service.ts';
import { openPrograms, type Programs } from './open-programs.ts';
import { ProgramFiguresCache } from './program-figures.ts';
import { DEFAULT_SERVICE_OPTIONS, type ServiceDependencies, type ServiceOptions } from './service-dependencies.ts';
import { createSessionMethods } from './session-service.ts';
import { SessionUsageCache } from './session-usage.ts';

/** A controller that isn't replicated has one replica, always of this name. */
const ONLY_REPLICA = 'only';

/** What may be set apart from the parts. */
export interface ServicesOptions {
  readonly link?: Partial<LinkOptions>;
  readonly services?: Partial<ServiceOptions>;
  readonly retention?: Partial<RetentionOptions>;
  readonly tunnels?: Partial<TunnelLimits>;
  /** What agents find when they poll the registry; left out for what assignments say. */
  readonly polled?: PolledPrograms;
}

/** Services, with what tests and later parts reach into. */
export interface OpenedServices extends ControllerServices {
  readonly link: LinkServer;
  readonly bus: Bus;
}

/** Opens the services of a single controller. */
export async function openServices(parts: ServiceParts, options: ServicesOptions = {}): Promise<OpenedServices> {
  const { store, clock, log, tracer, controllerId } = parts;
  await using opened = new AsyncDisposableStack();
  const bus = opened.use(new MemoryBus(log));
  const meter = parts.metrics?.link ?? NO_LINK_METER;
  const logs = opened.use(new FileLogStore(parts.logDirectory, log, { onAppended: (bytes) => meter.logged(bytes) }));
  for (const agentId of await store.agents.releaseReplica(ONLY_REPLICA, clock.now()))
    bus.publish(fleetTopic, { agentId });
  const signer = new StatementSigner(parts.signingKey, controllerId);
  const caches: FigureCaches = {
    usage: new SessionUsageCache(),
    networks: new NetworkFiguresCache(),
    programs: new ProgramFiguresCache(),
  };
  const link = opened.use(linkOf(parts, options, { bus, logs, signer, caches }));
  parts.metrics?.measureStreams(() => link.streams);
  const tasks = opened.use(new TaskGroup());
  const retention = liveView(() => ({ ...DEFAULT_RETENTION, ...parts.keep, ...options.retention }));
  const needs = {
    store,
    bus,
    logs,
    signer,
    disconnectAgent: parts.disconnectAgent,
    clock,
    log,
    tracer,
    options: { ...DEFAULT_SERVICE_OPTIONS, ...options.services },
  };
  const { agents, tokens } = parts;
  const { polled = async (agentId: string) => await pollProgramsOf(store, agentId) } = options;
  const programs = openPrograms({ ...needs, agents, tokens, polled, figures: caches.programs });
  const upkeep = startUpkeep(tasks, needs, retention, programs);
  const tunnels = openTunnels({
    ...{ ...needs, registry: link.tunnels, tokens, limits: options.tunnels ?? {} },
    allowedOrigins: () => parts.allowedOrigins,
  });
  const operatorRoutes = (router: ConnectRouter): void => {
    router.service(AgentService, createAgentService(needs));
    router.service(JobService, createJobService(needs));
    router.service(NetworkService, createNetworkService(needs, caches.networks));
    router.service(ProgramService, programs.methods);
    router.service(SessionService, { ...createSessionMethods(needs, caches.usage), ...tunnels.methods });
  };
  const owned = opened.move();
  return {
    link,
    bus,
    agentRoutes: link,
    operatorRoutes,
    operatorServices: [AgentService, JobService, NetworkService, ProgramService, SessionService],
    pages: programs.before(tunnels.pages),
    agentPages: programs.registry,
    agentsConnected: () => link.connections,
    tasks: () => [...link.progress, ...upkeep()],
    upgrades: tunnels.upgrades,
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}

function linkOf(
  { agents, clock, controllerId, heartbeatMs, keep, log, maxMessageBytes, metrics, store, tracer }: ServiceParts,
  { link: asked }: ServicesOptions,
  made: Pick<ServiceDependencies, 'bus' | 'logs' | 'signer'> & { readonly caches: FigureCaches },
): LinkServer {
  const { bus, caches, logs, signer } = made;
  return new LinkServer({
    store,
    bus,
    logs,
    identities: agents,
    controllerId,
    replicaId: ONLY_REPLICA,
    signer,
    clock,
    log,
    tracer,
    meter: metrics?.link ?? NO_LINK_METER,
    options: {
      ...{ ...DEFAULT_LINK_OPTIONS, maxMessageBytes, heartbeatMs, ...asked },
      get keptEvents() {
        return asked?.keptEvents ?? keep.events;
      },
    },
    onTelemetry: (agentId, told) => keepFigures(agentId, told, caches, clock, bus),
  });
}

/** What goes on by itself, beside calls and streams. Gives what tells whether it does. */
function startUpkeep(
  tasks: TaskGroup,
  needs: ServiceDependencies,
  retention: RetentionOptions,
  programs: Programs,
): () => readonly Progress[] {
  const sweeps = new Progress('upkeep', needs.clock);
  tasks.spawn((signal) => runSweeper({ ...needs, retention }, sweeps, signal));
  const { recheckMs } = needs.options;
  const meshes = new MeshDriver({ ...needs, recheckMs });
  const rollouts = new RolloutDriver({ ...needs, recheckMs });
  tasks.spawn((signal) => meshes.run(signal));
  tasks.spawn((signal) => rollouts.run(signal));
  tasks.spawn((signal) => programs.run(signal));
  return () => [sweeps, programs.progress, ...meshes.progress, ...rollouts.progress];
}

/** Figures that agents sent last. */
interface FigureCaches {
  readonly usage: SessionUsageCache;
  readonly networks: NetworkFiguresCache;
  readonly programs: ProgramFiguresCache;
}

function keepFigures(
  agentId: string,
  { networks, programs, sessions }: TelemetryRequest,
  caches: FigureCaches,
  clock: Clock,
  bus: Bus,
): void {
  for (const sample of sessions) caches.usage.put(agentId, sample);
  for (const sample of networks) caches.networks.put(agentId, sample, clock.now());
  if (caches.programs.put(agentId, programs, clock.now())) bus.publish(programsTopic, { agentId, name: '' });
}
