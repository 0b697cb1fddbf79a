// Composition root of the agent: opens data folder, audit log, trust and policy, identity, link and capabilities, in this
// order, and lets go of them in reverse. It decides nothing itself. A start that can't succeed fails with a LonglineError
// that names setting or file and the mend; later, losing controller or engine is no failure: the agent goes on and waits.
// Stopping leaves everything that runs outside the process alone; the next start adopts it.

import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { create } from '@bufbuild/protobuf';
import { type AgentUsage, AgentUsageSchema } from '#gen/longline/v1/agent_pb.js';
import type { JobsCapability } from '../capabilities/jobs/capability.ts';
import type { JobsConfig } from '../capabilities/jobs/config.ts';
import { systemClock } from '../core/clock.ts';
import { describeError, LonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { TaskGroup } from '../core/task-group.ts';
import { Link } from '../link/link.ts';
import type { HostReport } from '../link/ports.ts';
import { parseEngineAddress } from '../platform/docker/engine-address.ts';
import { StateDatabase } from '../platform/sqlite/state-store.ts';
import { createLogger } from '../telemetry/logger.ts';
import { Admission } from './admission.ts';
import { AuditLog } from './audit/audit-log.ts';
import { auditedExecutor } from './audit/audited-executor.ts';
import { checkpointMessage } from './audit/checkpoint-message.ts';
import { CapabilityRegistry } from './capability-registry.ts';
import type { AgentConfig } from './config.ts';
import { type DataFolder, openDataFolder } from './data-folder.ts';
import { DiskGuard } from './disk-guard.ts';
import { hostFacts, loadAverage } from './host-facts.ts';
import { AgentIdentity } from './identity/agent-identity.ts';
import { jobsConfigOf, openJobs } from './jobs-setup.ts';
import { agentView } from './local/agent-view.ts';
import { LocalServer } from './local/local-server.ts';
import { hostPaths } from './policy/host-paths.ts';
import { PolicyStore } from './policy/policy-store.ts';
import { ENROLLMENT_TRUST_FILE, writeEnrollmentTrust } from './trust/enrollment-trust.ts';
import { TrustStore } from './trust/trust-store.ts';
import { AGENT_VERSION } from './version.ts';

/** How often an unavailable capability is tried again. */
const REOPEN_EVERY_MS = 15_000;

const clock = systemClock;

/** Runs the agent until the signal aborts. Rejects if it can't start. */
export async function runAgent(config: AgentConfig, signal: AbortSignal): Promise<void> {
  const log = createLogger({ level: config.log.level, name: 'agent' });
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await openDataFolder(config.dataDir));
  const jobs = jobsConfigOf(config);
  const rules = await openRules(config, folder, jobs);
  const agent = await assemble({ config, log, folder, jobs, ...rules }, stack, signal);
  await serve(agent, signal);
}

interface Rules {
  readonly trust: TrustStore;
  readonly policy: PolicyStore;
  readonly paths: ReturnType<typeof hostPaths>;
}

interface Foundation extends Rules {
  readonly config: AgentConfig;
  readonly log: Logger;
  readonly folder: DataFolder;
  readonly jobs: JobsConfig;
}

interface Agent extends Foundation {
  readonly identity: AgentIdentity;
  readonly link: Link;
  readonly registry: CapabilityRegistry;
  readonly local: LocalServer;
  readonly audit: AuditLog;
  readonly reload: () => Promise<readonly string[]>;
}

async function openRules(config: AgentConfig, folder: DataFolder, jobs: JobsConfig): Promise<Rules> {
  const engine = parseEngineAddress(config.dockerHost);
  // Who may mount these into a job owns the host.
  const guarded = [folder.path, ...(engine.kind === 'unix' ? [engine.socketPath] : [])];
  for (const path of [config.policyFile, config.trustFile, config.jobs.credentialsFile]) {
    if (path !== undefined) guarded.push(path);
  }
  const paths = hostPaths(guarded);
  const { user, runtime } = jobs.defaults;
  const policy = new PolicyStore(config.policyFile, { paths, defaultUser: user, defaultRuntime: runtime });
  await policy.load();
  const trust = new TrustStore({
    trustFile: { path: config.trustFile ?? folder.file('trust.toml'), required: config.trustFile !== undefined },
    enrollmentFile: config.enrollmentTrust ? folder.file(ENROLLMENT_TRUST_FILE) : undefined,
    enrollmentScopes: [],
  });
  await trust.load();
  return { trust, policy, paths };
}

async function assemble(base: Foundation, stack: AsyncDisposableStack, signal: AbortSignal): Promise<Agent> {
  const { config, log, folder, jobs, trust, policy, paths } = base;
  const state = stack.use(new StateDatabase(folder.file('state.db')));
  // Link, registry and audit log know each other; each is reached through this once all are there.
  const parts: { link?: Link; registry?: CapabilityRegistry } = {};
  const audit = stack.use(
    await AuditLog.open({
      dataDir: folder.path,
      clock,
      log,
      onCheckpoint: (checkpoint) => parts.link?.sendAuditCheckpoint(checkpointMessage(checkpoint)),
    }),
  );
  const identity = makeIdentity(base, audit);
  await identity.open(signal);
  const stopping = new AbortController();
  const capability = openJobs(config, jobs, folder.instanceId, { open: (id) => parts.link!.logs.open(id) }, stack);
  const registry = new CapabilityRegistry(
    [capability],
    (name) => ({
      log: log.child({ capability: name }),
      clock,
      state: state.namespace(name),
      signal: stopping.signal,
      emit: (event) => parts.link?.emit(event, name),
    }),
    log,
  );
  const report = hostReport(base, registry, capability, () => parts.link);
  const nameplate = () => ({ agentId: config.agentId, labels: { ...identity.labels, ...config.labels } });
  const admission = new Admission({
    ...{ trust, policy, audit, paths, clock, jobs, nameplate },
    allowedControllers: () => (config.allowedControllers.length > 0 ? config.allowedControllers : undefined),
    maxSkewMs: config.clockSkewMs,
  });
  const link = stack.use(
    await Link.open({
      dataDir: folder.file('link'),
      targets: {
        current: () => identity.current(),
        proven: (target) => {
          identity.proven(target);
          offerCheckpoints(audit, () => parts.link, log);
        },
      },
      admission: new DiskGuard(admission, folder.path, config.spool.minFreeBytes, clock),
      executor: auditedExecutor(registry, audit, log),
      report,
      clock,
      log,
      limits: {
        backoffCapMs: config.reconnectCapMs,
        spoolBytes: config.spool.maxBytes,
        segmentBytes: config.spool.segmentBytes,
      },
      onCheckpointAck: (chainId, sequence) => {
        audit.acknowledge(chainId, Number(sequence)).catch((error: unknown) => {
          log.error('an acknowledged audit checkpoint could not be marked', { err: describeError(error) });
        });
      },
    }),
  );
  parts.link = link;
  // Disposed before the link, whose logs it writes to and which carries its results.
  stack.use(registry);
  stack.defer(() => stopping.abort(new LonglineError('cancelled', 'the agent stops')));
  const reload = () => reloadRules(base, audit);
  const view = agentView({
    ...{ link, report, reload },
    explaining: () => ({
      jobs,
      nameplate: nameplate(),
      nowMs: clock.now(),
      findKey: (keyId) => trust.find(keyId),
      evaluate: (request) => policy.evaluate(request),
    }),
    agentId: config.agentId,
    instanceId: folder.instanceId,
    controllerUrl: config.controllerUrl ?? '',
    startedAtMs: clock.now(),
    certificateExpiresAtMs: () => identity.expiresAtMs,
  });
  const local = stack.use(new LocalServer(config.localSocket ?? folder.file('agent.sock'), view, log));
  return { ...base, identity, link, registry, local, audit, reload };
}

async function serve(agent: Agent, signal: AbortSignal): Promise<void> {
  const { config, log, identity, link, registry, local } = agent;
  await local.open();
  await registry.open(() => link.unfinishedIds);
  await link.resume();
  await using tasks = new TaskGroup(signal);
  using _ = reloadOnHangup(agent);
  tasks.spawn((stop) => link.run(stop));
  tasks.spawn((stop) => identity.keepRenewed(() => link.reconnect('the certificate was renewed'), stop));
  tasks.spawn(async (stop) => {
    for (;;) {
      await clock.sleep(REOPEN_EVERY_MS, stop);
      if (await registry.open(() => link.unfinishedIds)) link.factsChanged();
    }
  });
  local.setServing(true);
  log.info('agent is running', { agentId: config.agentId, controller: config.controllerUrl, version: AGENT_VERSION });
  await tasks.wait();
  local.setServing(false);
  log.info('agent is stopping; what runs goes on');
}

function makeIdentity({ config, log, folder, trust }: Foundation, audit: AuditLog): AgentIdentity {
  return new AgentIdentity({
    folder: folder.file('identity'),
    controllerUrl: config.controllerUrl ?? '',
    agentId: config.agentId,
    instanceId: folder.instanceId,
    bootId: randomUUID(),
    token: config.token?.reveal(),
    apiKey: config.apiKey?.reveal(),
    trustedCertificates: () =>
      config.caFile === undefined ? Promise.resolve(undefined) : readFile(config.caFile, 'utf8'),
    clock,
    log,
    onEnrolled: async ({ controllerId, controllerKeys }) => {
      await writeEnrollmentTrust(folder.file(ENROLLMENT_TRUST_FILE), { controllerId, keys: controllerKeys });
      await trust.load();
      await audit.append({ event: 'enrolled', controllerId });
    },
  });
}

function hostReport(
  { config }: Foundation,
  registry: CapabilityRegistry,
  jobs: JobsCapability,
  link: () => Link | undefined,
): HostReport {
  const { region, labels, platform } = config;
  return {
    facts: () => hostFacts({ version: AGENT_VERSION, region, labels, platform }, registry.availability),
    usage: async (): Promise<AgentUsage> => {
      const { running, queued, max } = jobs.counts();
      return create(AgentUsageSchema, {
        runningJobs: running,
        queuedJobs: queued,
        maxJobs: max,
        agentRssBytes: BigInt(process.memoryUsage.rss()),
        load1m: loadAverage(),
        spoolBytes: BigInt(link()?.status().spoolBytes ?? 0),
      });
    },
  };
}

/** After each connect: heads that an earlier connection did not get across. The newest covers the older. */
function offerCheckpoints(audit: AuditLog, link: () => Link | undefined, log: Logger): void {
  audit.unacknowledged().then(
    (checkpoints) => {
      for (const checkpoint of checkpoints.slice(-1)) link()?.sendAuditCheckpoint(checkpointMessage(checkpoint));
    },
    (error: unknown) => log.error('audit checkpoints could not be read', { err: describeError(error) }),
  );
}

async function reloadRules({ policy, trust, log }: Foundation, audit: AuditLog): Promise<readonly string[]> {
  try {
    await policy.load();
    await trust.load();
  } catch (error) {
    audit.note({
      event: 'policy_reloaded',
      outcome: 'refused',
      summary: { error: describeError(error).slice(0, 1024) },
    });
    throw error;
  }
  const files = [...policy.files, ...trust.files];
  audit.note({ event: 'policy_reloaded', outcome: 'applied', summary: { files } });
  log.info('policy and trust were read anew', { files });
  return files;
}

function reloadOnHangup({ reload, log }: Agent): Disposable {
  const onHangup = () => {
    reload().catch((error: unknown) => log.error('reload refused; the old files stay', { err: describeError(error) }));
  };
  process.on('SIGHUP', onHangup);
  return { [Symbol.dispose]: () => process.off('SIGHUP', onHangup) };
}
