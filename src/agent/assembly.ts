// Puts the agent's parts together. Link, registry and audit log know each other, so each is reached through one holder
// that is filled as they come up; everything is owned by the stack and let go of in reverse order.
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { NetworkCapability } from '../capabilities/network/capability.ts';
import type { SessionsCapability } from '../capabilities/sessions/capability.ts';
import { describeError, LonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { Progress } from '../core/progress.ts';
import { Link } from '../link/link.ts';
import type { HostReport, TargetSource } from '../link/ports.ts';
import { Admission } from './admission.ts';
import { AuditLog } from './audit/audit-log.ts';
import { auditedExecutor } from './audit/audited-executor.ts';
import { checkpointMessage } from './audit/checkpoint-message.ts';
import { makeCapabilities } from './capabilities-setup.ts';
import { CapabilityRegistry } from './capability-registry.ts';
import type { AgentConfig } from './config.ts';
import { DiskGuard } from './disk-guard.ts';
import type { FolderFoundation, Foundation } from './foundation.ts';
import type { AgentHealth } from './health/agent-health.ts';
import { healthMessage } from './health/health-message.ts';
import { healthRoutes } from './health/health-routes.ts';
import { makeHealth } from './health-setup.ts';
import { hostReport } from './host-report.ts';
import { programRoutes, versionRoute } from './http/agent-routes.ts';
import type { HttpRoute } from './http/http-server.ts';
import { statusRoute } from './http/status-route.ts';
import { AgentIdentity } from './identity/agent-identity.ts';
import { agentView } from './local/agent-view.ts';
import {
  type LocalParts,
  LocalServer,
  type LocalSurface,
  type LocalView,
  type ProgramCalls,
} from './local/local-server.ts';
import { setLogLevel } from './log-levels.ts';
import type { AgentMetrics } from './metrics/agent-metrics.ts';
import { ControlSocket } from './network/control-socket.ts';
import { networkCalls } from './network/network-calls.ts';
import { programCalls } from './programs/program-calls.ts';
import type { Programs } from './programs-setup.ts';
import { type Reloaded, reloader, reloadRules } from './rules.ts';
import { sessionsConfigOf } from './sessions-setup.ts';
import { DesiredStateAdmission } from './state-admission.ts';
import { StateFile } from './state-file.ts';
import { StateRegistry } from './state-registry.ts';
import { ENROLLMENT_TRUST_FILE, writeEnrollmentTrust } from './trust/enrollment-trust.ts';
import { SessionTargets } from './tunnels/session-targets.ts';
import { TunnelAdmission } from './tunnels/tunnel-admission.ts';

/** An agent whose parts are there and not yet running. */
export interface Agent extends Foundation {
  readonly identity: AgentIdentity;
  readonly link: Link;
  readonly registry: CapabilityRegistry;
  readonly sessions: SessionsCapability;
  readonly programs: Programs;
  readonly local: LocalSurface;
  /** Of the HTTP API. */
  readonly routes: readonly HttpRoute[];
  readonly control: ControlSocket;
  readonly reload: () => Promise<Reloaded>;
  readonly health: AgentHealth;
  /** Of looking again at capabilities that are unavailable. */
  readonly passes: Progress;
  /** Whatever must get on. */
  readonly tasks: () => readonly Progress[];
}

/** Filled while the parts come up; nothing calls through it before all are there. */
interface Holder {
  link?: Link;
  local?: LocalSurface;
  tunnelTargets?: SessionTargets;
}

/** Opens audit log, identity (enrolling if needed), capabilities, link and local server. */
export async function assemble(base: Foundation, stack: AsyncDisposableStack, signal: AbortSignal): Promise<Agent> {
  const { config, log, folder } = base;
  const holder: Holder = {};
  const audit = await openAudit(base, holder, stack);
  const identity = makeIdentity(base, audit);
  await identity.open(signal);
  const { metrics } = base;
  const surroundings = { link: () => holder.link, controller: () => identity.current(), meter: metrics.sessions };
  const capabilities = await makeCapabilities(base, surroundings, stack);
  const { sessions, networks, programs } = capabilities;
  const stopping = new AbortController();
  const registry = await makeRegistry(base, capabilities.all, holder, stopping.signal, stack);
  const states = new StateRegistry(capabilities.all, registry);
  const spoolBytes = () => holder.link?.status().spoolBytes ?? 0;
  const report = hostReport({ config, registry, jobs: () => capabilities.jobs.counts(), sessions, spoolBytes });
  const linked = { audit, identity, registry, states, report, sessions, holder, metrics };
  const link = stack.use(await openLink(base, linked));
  holder.link = link;
  // Disposed before the link: the registry's capabilities write to its logs, and it carries their results.
  stack.use(registry);
  stack.defer(() => {
    link.letGo();
    stopping.abort(new LonglineError('cancelled', 'the agent stops'));
  });
  const reload = reloader(
    () => reloadRules(base, base.settings, audit, log),
    () => holder.tunnelTargets?.recheck(),
  );
  const calls = { networks: networkCalls(networks, base.clock), programs: programCalls(programs.capability) };
  const passes = new Progress('capabilities', base.clock);
  const tasks = () => [...link.progress, passes, ...networks.progress, ...programs.capability.progress];
  const looked = { link, identity, audit, registry, capabilities: capabilities.all, tasks };
  const health = makeHealth({ ...base, ...looked, serving: () => holder.local?.serving ?? false });
  const view = makeView(base, { identity, link, report, reload, health });
  const local = stack.use(makeLocalServer(base, { view, ...calls }));
  holder.local = local;
  const controlPath = config.network.controlSocket ?? folder.file('network.sock');
  const control = stack.use(new ControlSocket(controlPath, networks, base.clock, log));
  const measured = metrics.measure({
    ...{ audit, registry, jobs: capabilities.jobs, sessions, networks, programs: programs.capability },
    folder: folder.path,
    status: () => holder.link?.status(),
    certificateExpiresAtMs: () => identity.expiresAtMs,
  });
  stack.use(measured);
  const routes = makeRoutes(base, { health, view, networks, programs: calls.programs });
  const parts = { identity, link, registry, sessions, programs, local, routes, control, health };
  return { ...base, ...parts, reload, passes, tasks };
}

interface RouteParts {
  readonly health: AgentHealth;
  readonly view: LocalView;
  readonly networks: NetworkCapability;
  readonly programs: ProgramCalls;
}

/** What the HTTP API tells of an agent that serves. */
function makeRoutes(
  { config, clock, metrics, leadership }: Foundation,
  { health, view, networks, programs }: RouteParts,
): readonly HttpRoute[] {
  return [
    ...healthRoutes({ health, networks: () => networks.look(), clock, leadership: leadership.view }),
    statusRoute({ view, programs, health, now: () => clock.now() }),
    versionRoute(config.agentId),
    ...programRoutes(programs),
    metrics.route(),
  ];
}

/**
 * Enrols, or renews what is due, and lets go of all again: for a replica that stands by. Gives when the next renewal is due,
 * milliseconds from now; undefined if none ever is.
 */
export async function tendIdentity(base: FolderFoundation, signal: AbortSignal): Promise<number | undefined> {
  await using stack = new AsyncDisposableStack();
  const identity = makeIdentity(base, await openAudit(base, {}, stack));
  await identity.open(signal);
  await identity.renewIfDue(signal);
  return identity.renewalDueInMs;
}

async function openAudit(
  { config, clock, log, folder }: FolderFoundation,
  holder: Holder,
  stack: AsyncDisposableStack,
) {
  const audit = await AuditLog.open({
    dataDir: folder.path,
    clock,
    log,
    checkpointIntervalMs: config.audit.checkpointIntervalMs,
    onCheckpoint: (checkpoint) => holder.link?.sendAuditCheckpoint(checkpointMessage(checkpoint)),
  });
  return stack.use(audit);
}

function makeIdentity(
  { config, clock, log, folder, tracer, trust, leadership }: FolderFoundation,
  audit: AuditLog,
): AgentIdentity {
  const { caFile } = config;
  return new AgentIdentity({
    folder: folder.file('identity'),
    controllerUrl: config.controllerUrl ?? '',
    agentId: config.agentId,
    instanceId: folder.instanceId,
    bootId: randomUUID(),
    leaderEpoch: () => leadership.epoch,
    token: config.token?.reveal(),
    apiKey: config.apiKey?.reveal(),
    trustedCertificates: async () => (caFile === undefined ? undefined : await readFile(caFile, 'utf8')),
    clock,
    log,
    tracer,
    onEnrolled: async ({ controllerId, controllerKeys }) => {
      await writeEnrollmentTrust(folder.file(ENROLLMENT_TRUST_FILE), { controllerId, keys: controllerKeys });
      await trust.load();
      await audit.append({ event: 'enrolled', controllerId });
    },
  });
}

async function makeRegistry(
  { clock, log, folder }: Foundation,
  capabilities: ConstructorParameters<typeof CapabilityRegistry>[0],
  holder: Holder,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<CapabilityRegistry> {
  const state = stack.use(await StateFile.open(folder.file('state'), { log }));
  const hostFor = (name: string) => ({
    log: log.child({ capability: name }),
    clock,
    state: state.namespace(name),
    signal,
    emit: (event: Parameters<Link['emit']>[0]) => holder.link?.emit(event, name),
  });
  return new CapabilityRegistry(capabilities, hostFor, log);
}

interface LinkParts {
  readonly audit: AuditLog;
  readonly identity: AgentIdentity;
  readonly registry: CapabilityRegistry;
  readonly states: StateRegistry;
  readonly report: HostReport;
  readonly sessions: SessionsCapability;
  readonly holder: Holder;
  readonly metrics: AgentMetrics;
}

async function openLink(base: Foundation, parts: LinkParts): Promise<Link> {
  const { config, clock, log, folder, tracer } = base;
  const { trust, policy, paths, jobs, settings } = base;
  const { audit, identity, registry, states, report, sessions, holder, metrics } = parts;
  const { mayAct, reception } = base.leadership;
  const gate = {
    ...{ trust, policy, audit, clock },
    nameplate: () => nameplateOf(config, identity),
    allowedControllers: () => {
      const { allowedControllers } = settings.config;
      return allowedControllers.length > 0 ? allowedControllers : undefined;
    },
    maxSkewMs: config.clockSkewMs,
  };
  const admission = new Admission({ ...gate, paths, jobs, sessions: sessionsConfigOf(config) });
  const targets: TargetSource = {
    current: () => identity.current(),
    proven: (target) => {
      identity.proven(target);
      reception?.welcomed();
      offerCheckpoints(audit, holder, log);
    },
  };
  holder.tunnelTargets = new SessionTargets({ access: sessions, judge: new TunnelAdmission(gate), log });
  return await Link.open({
    dataDir: folder.file('link'),
    targets,
    admission: metrics.commands.admission(new DiskGuard(admission, folder.path, config.spool.minFreeBytes, clock)),
    executor: metrics.commands.executor(auditedExecutor(registry, audit, log)),
    report,
    states: { host: states, admission: new DesiredStateAdmission(gate) },
    tunnelTargets: metrics.tunnels.targets(holder.tunnelTargets),
    ...(mayAct === undefined ? {} : { mayAct }),
    onRefused: (error) => reception?.refused(error),
    clock,
    log: log.child({ part: 'link' }),
    tracer,
    limits: {
      backoffCapMs: config.reconnectCapMs,
      heartbeatMostMs: config.heartbeatIntervalMs,
      spoolBytes: config.spool.maxBytes,
      segmentBytes: config.spool.segmentBytes,
    },
    onCheckpointAck: (chainId, sequence) => {
      audit.acknowledge(chainId, Number(sequence)).catch((error: unknown) => {
        log.error('an acknowledged audit checkpoint could not be marked', { err: describeError(error) });
      });
    },
  });
}

/** After each connect: heads that an earlier connection did not get across. The newest covers the older. */
function offerCheckpoints(audit: AuditLog, holder: Holder, log: Logger): void {
  audit.unacknowledged().then(
    (checkpoints) => {
      for (const checkpoint of checkpoints.slice(-1)) holder.link?.sendAuditCheckpoint(checkpointMessage(checkpoint));
    },
    (error: unknown) => log.error('audit checkpoints could not be read', { err: describeError(error) }),
  );
}

function nameplateOf(config: AgentConfig, identity: AgentIdentity) {
  return { agentId: config.agentId, labels: { ...identity.labels, ...config.labels } };
}

type ViewParts = Pick<Agent, 'identity' | 'link' | 'reload' | 'health'> & { readonly report: HostReport };

function makeView(
  { config, clock, folder, jobs, levels, trust, policy, leadership }: Foundation,
  { identity, link, report, reload, health }: ViewParts,
): LocalView {
  return agentView({
    ...{ link, report, reload },
    health: async () => healthMessage(await health.report()),
    setLogLevel: async (request) => setLogLevel(levels, request),
    explaining: () => ({
      sessions: sessionsConfigOf(config),
      jobs,
      nameplate: nameplateOf(config, identity),
      nowMs: clock.now(),
      findKey: (keyId) => trust.find(keyId),
      evaluate: (request) => policy.evaluate(request),
    }),
    agentId: config.agentId,
    instanceId: folder.instanceId,
    controllerUrl: config.controllerUrl ?? '',
    startedAtMs: clock.now(),
    certificateExpiresAtMs: () => identity.expiresAtMs,
    leadership: leadership.view,
  });
}

function makeLocalServer({ config, log, folder, localServer, tracer }: Foundation, parts: LocalParts): LocalSurface {
  if (localServer !== undefined) return localServer.lend(parts);
  return new LocalServer(config.localSocket ?? folder.file('agent.sock'), parts, log.child({ part: 'local' }), tracer);
}
