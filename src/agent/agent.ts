// The agent process: opens data folder, rules and everything on them (assembly.ts), runs it until told to stop, and lets
// go of it in reverse. It decides nothing itself. A start that can't succeed fails with a LonglineError that names setting
// or file and the mend; later, losing controller or engine is no failure: the agent goes on and waits.
// Stopping leaves everything that runs outside the process alone; the next start adopts it.
import { systemClock } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import { ATTRIBUTE } from '../core/span-names.ts';
import { TaskGroup } from '../core/task-group.ts';
import { createLogger } from '../telemetry/logger.ts';
import { startTracing } from '../telemetry/tracing/tracing.ts';
import { type Agent, assemble } from './assembly.ts';
import type { AgentConfig } from './config.ts';
import { openDataFolder } from './data-folder.ts';
import type { Foundation } from './foundation.ts';
import { LiveSettings } from './live-settings.ts';
import { applyLevels } from './log-levels.ts';
import { openRules } from './rules.ts';
import { ServiceVoice } from './service/service-voice.ts';
import { AGENT_BUILD, AGENT_VERSION } from './version.ts';

/** How often an unavailable capability is tried again. */
const REOPEN_EVERY_MS = 15_000;
/** More than opening all capabilities takes on a host that is slow. */
const PASS_LIMIT_MS = 300_000;

/**
 * Runs the agent until the signal aborts. Rejects if it can't start.
 * @param reread gives the settings as they are now, for a reload.
 * @param environment where private keys of networks may stand, and OTEL_* may ask for traces.
 */
export async function runAgent(
  config: AgentConfig,
  reread: () => Promise<AgentConfig>,
  signal: AbortSignal,
  environment: Foundation['environment'] = {},
): Promise<void> {
  const clock = systemClock;
  const log = createLogger({ level: config.log.level, name: 'agent', journal: environment['JOURNAL_STREAM'] });
  await using voice = new ServiceVoice({ environment, clock, log });
  const stop = () => voice.stopping();
  signal.addEventListener('abort', stop, { once: true });
  await using stack = new AsyncDisposableStack();
  const resource = { [ATTRIBUTE.agentId]: config.agentId };
  const { tracer } = stack.use(
    await startTracing({ environment, service: 'longline-agent', version: AGENT_VERSION, resource, clock, log }),
  );
  const folder = stack.use(await openDataFolder(config.dataDir));
  applyLevels(log, config.log);
  const settings = new LiveSettings(config, reread, (next) => applyLevels(log, next));
  const { jobs } = settings;
  const rules = await openRules(config, folder, jobs);
  const base = { config, settings, clock, log, levels: log, tracer, folder, jobs, environment, ...rules };
  await serve(await assemble(base, stack, signal), voice, signal);
}

async function serve(agent: Agent, voice: ServiceVoice, signal: AbortSignal): Promise<void> {
  const { config, clock, log, identity, link, registry, local, http, programs, passes } = agent;
  await local.open();
  await openControl(agent);
  await http.open();
  await registry.open(() => link.unfinishedIds);
  programs.begin();
  await link.resume(({ id, attempt }) => agent.sessions.followsLog(id, attempt));
  await using tasks = new TaskGroup(signal);
  using _ = reloadOnHangup(agent, voice);
  tasks.spawn((stop) => link.run(stop));
  tasks.spawn((stop) => identity.keepRenewed(() => link.reconnect('the certificate was renewed'), stop));
  tasks.spawn(async (stop) => {
    for (;;) {
      passes.expect(REOPEN_EVERY_MS + PASS_LIMIT_MS, 'a look at what is unavailable');
      await clock.sleep(REOPEN_EVERY_MS, stop);
      if (await registry.open(() => link.unfinishedIds)) link.factsChanged();
    }
  });
  local.setServing(true);
  voice.ready({ tasks: () => [...link.progress, passes], status: () => `link ${link.status().state.kind}` });
  const { agentId, controllerUrl: controller } = config;
  log.info('agent is running', { agentId, controller, version: AGENT_VERSION, build: AGENT_BUILD });
  await tasks.wait();
  local.setServing(false);
  log.info('agent is stopping; what runs goes on');
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

function reloadOnHangup({ reload, log }: Agent, voice: ServiceVoice): Disposable {
  const onHangup = () => {
    voice
      .reload(reload)
      .catch((error: unknown) => log.error('reload refused; all stays as it was', { err: describeError(error) }));
  };
  process.on('SIGHUP', onHangup);
  return { [Symbol.dispose]: () => process.off('SIGHUP', onHangup) };
}
