// The agent process: opens data folder, rules and everything on them (assembly.ts), runs it until told to stop, and lets
// go of it in reverse. It decides nothing itself. A start that can't succeed fails with a LonglineError that names setting
// or file and the mend; later, losing controller or engine is no failure: the agent goes on and waits.
// Stopping leaves everything that runs outside the process alone; the next start adopts it.
import { systemClock } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import type { Hangups } from '../core/hangups.ts';
import { ServiceVoice } from '../core/service-voice.ts';
import { ATTRIBUTE } from '../core/span-names.ts';
import { TaskGroup } from '../core/task-group.ts';
import { noTracer, type Tracer } from '../core/tracer.ts';
import { tellServiceManager } from '../platform/process/service-manager.ts';
import { createLogger, type LeveledLogger } from '../telemetry/logger.ts';
import { startLogExport } from '../telemetry/logs/log-export.ts';
import { startTracing } from '../telemetry/tracing/tracing.ts';
import { type Agent, assemble, tendIdentity } from './assembly.ts';
import type { AgentConfig } from './config.ts';
import { openDataFolder } from './data-folder.ts';
import type { Foundation } from './foundation.ts';
import { EpochRecord, epochFolder } from './ha/epoch-record.ts';
import { forgetHolder, noteHolder } from './ha/folder-holder.ts';
import type { Leadership } from './ha/leadership.ts';
import { replicaName } from './ha/replica-name.ts';
import { LiveSettings } from './live-settings.ts';
import { applyLevels } from './log-levels.ts';
import { openRules } from './rules.ts';
import { AGENT_BUILD, AGENT_VERSION } from './version.ts';
import { Presence } from './waiting/presence.ts';

/** How often an unavailable capability is tried again. */
const REOPEN_EVERY_MS = 15_000;
/** More than opening all capabilities takes on a host that is slow. */
const PASS_LIMIT_MS = 300_000;

/** How the process is told to run. */
export interface AgentProcess {
  readonly config: AgentConfig;
  /** Gives the settings as they are now, for a reload. */
  readonly reread: () => Promise<AgentConfig>;
  /** Where private keys of networks may stand, and OTEL_* may ask for traces and logs. */
  readonly environment: Foundation['environment'];
  readonly hangups: Hangups;
}

/** Runs the agent until the signal aborts. Rejects if it can't start. */
export async function runAgent(agent: AgentProcess, signal: AbortSignal): Promise<void> {
  const { config, environment } = agent;
  const log = createLogger({ level: config.log.level, name: 'agent', journal: environment['JOURNAL_STREAM'] });
  applyLevels(log, config.log);
  const telemetry = { ...telemetryOf(config, environment), log };
  await using copy = await startLogExport(telemetry);
  await using tracing = await startTracing(telemetry);
  await using presence = await Presence.open({ config, environment, clock: systemClock, log, tracing, copy, signal });
  const { beaten: onBeat } = presence.metrics;
  await using voice = new ServiceVoice({ environment, clock: systemClock, log, tell: tellServiceManager, onBeat });
  using _ = onAbort(signal, () => {
    log.info('told to stop');
    voice.stopping();
  });
  const start: Start = { ...agent, log, voice, presence, tracer: tracing.tracer };
  if (config.ha.enabled) return await runAsReplica(start, signal);
  // Once there were replicas, the controller takes nobody of an earlier epoch.
  await runAlone(start, { epoch: await EpochRecord.read(epochFolder(config)) }, signal);
}

interface Start extends AgentProcess {
  readonly log: LeveledLogger;
  readonly voice: ServiceVoice;
  readonly presence: Presence;
  readonly tracer: Tracer;
}

async function runAsReplica(start: Start, signal: AbortSignal): Promise<void> {
  const { config, log, voice, presence, hangups } = start;
  const { runElected } = await import('./ha/elected-agent.ts');
  const holder = replicaName(config.http);
  await runElected({
    ...{ config, holder, clock: systemClock, log, signal, hangups },
    elects: (election, view) => presence.elects(election, view),
    onHeard: (view) => presence.yieldTo(holder, view),
    lead: async (leadership, term) => await runAlone(start, leadership, term),
    tend: async (stop) => await tend(start, stop),
    // A standby does what it is for.
    onStandby: () => {
      presence.standsBy();
      voice.ready({ tasks: () => [], status: () => 'this replica stands by' });
    },
  });
}

async function runAlone(start: Start, leadership: Leadership, signal: AbortSignal): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { tracer } = start;
  await serve(await assemble(await openFoundation(start, leadership, tracer, stack), stack, signal), start, signal);
}

/** What its telemetry over OTLP says of itself. */
function telemetryOf({ agentId }: AgentConfig, environment: Foundation['environment']) {
  const resource = { [ATTRIBUTE.agentId]: agentId };
  return { environment, service: 'longline-agent', version: AGENT_VERSION, resource, clock: systemClock };
}

/** Of a replica that stands by. */
async function tend(start: Start, signal: AbortSignal): Promise<number | undefined> {
  await using stack = new AsyncDisposableStack();
  return await tendIdentity(await openFoundation(start, { epoch: 0n }, noTracer, stack), signal);
}

async function openFoundation(
  { config, reread, environment, log, presence }: Start,
  leadership: Leadership,
  tracer: Tracer,
  stack: AsyncDisposableStack,
): Promise<Foundation> {
  const folder = stack.use(await openDataFolder(config.dataDir));
  await (config.ha.enabled ? noteHolder(folder.path, leadership.epoch, log) : forgetHolder(folder.path));
  const settings = new LiveSettings(config, reread, (next) => applyLevels(log, next));
  const { jobs } = settings;
  const rules = await openRules(config, folder, jobs);
  return {
    ...{ config, settings, clock: systemClock, log, levels: log, tracer, folder, jobs, environment, leadership },
    ...{ metrics: presence.metrics, pulse: presence.pulse, localServer: presence.localServer },
    ...rules,
  };
}

async function serve(agent: Agent, { voice, presence, hangups }: Start, signal: AbortSignal): Promise<void> {
  const { config, clock, log, identity, link, registry, local, programs, passes, tasks: mustGetOn } = agent;
  await local.open();
  await openControl(agent);
  using _shown = presence.show(agent);
  // Opening adopts what earlier leaders left, which is for the present one alone.
  if (agent.leadership.mayAct?.() === false) return;
  await registry.open(() => link.unfinishedIds);
  programs.begin();
  await link.resume(({ id, attempt }) => agent.sessions.followsLog(id, attempt));
  await using tasks = new TaskGroup(signal);
  using _reloads = hangups.handle(() => reload(agent, voice));
  tasks.spawn((stop) => link.run(stop));
  tasks.spawn((stop) => identity.keepRenewed(() => link.reconnect('the certificate was renewed'), stop));
  tasks.spawn(async (stop) => {
    for (;;) {
      passes.expect(REOPEN_EVERY_MS + PASS_LIMIT_MS, 'a look at what is unavailable');
      await clock.sleep(REOPEN_EVERY_MS, stop);
      if (await registry.open(() => link.unfinishedIds)) link.factsChanged();
    }
  });
  // Nobody shall begin anything with an agent that stops, however long its end takes.
  using _unready = onAbort(signal, () => local.setServing(false));
  local.setServing(!signal.aborted);
  voice.ready({ tasks: mustGetOn, status: () => `link ${link.status().state.kind}` });
  const { agentId, controllerUrl: controller } = config;
  log.info('agent is running', { agentId, controller, version: AGENT_VERSION, build: AGENT_BUILD });
  await tasks.wait();
  log.info('agent is stopping; what runs goes on');
}

function onAbort(signal: AbortSignal, listener: () => void): Disposable {
  signal.addEventListener('abort', listener, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', listener) };
}

/** The agent does without a socket that nobody named, as where its folder's path is too long for one. */
async function openControl({ config, control, log }: Agent): Promise<void> {
  try {
    await control.open();
  } catch (error) {
    if (config.network.controlSocket !== undefined) throw error;
    log.warn('applications cannot ask for networks in JSON', { err: describeError(error) });
  }
}

function reload({ reload, log }: Agent, voice: ServiceVoice): void {
  voice
    .reload(reload)
    .catch((error: unknown) => log.error('reload refused; all stays as it was', { err: describeError(error) }));
}
