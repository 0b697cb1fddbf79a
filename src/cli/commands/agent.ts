// `longline agent`: the one place of the command line that knows the agent.
import type { Command } from 'commander';
import { type AgentConfig, agentConfig } from '../../agent/config.ts';
import { LonglineError } from '../../core/errors.ts';
import { Hangups } from '../../core/hangups.ts';
import { addConfigOptions } from '../config-options.ts';
import { InterruptGuard } from '../interrupt.ts';
import type { CliIo } from '../io.ts';
import { ShutdownLimit } from '../shutdown-limit.ts';
import { registerLogLevel } from './agent-log-level.ts';

export type { AgentConfig } from '../../agent/config.ts';
/** The agent's settings, for commands that print or check them. */
export { agentConfig } from '../../agent/config.ts';

const EXAMPLES = `
Examples:
  longline agent --controller https://10.0.0.1:7443 --token TOKEN --data-dir /var/lib/longline
  longline agent --config /etc/longline/agent.toml --label zone=eu --label gpu=yes
  longline config example agent > agent.toml

Logs are JSON on standard error. SIGTERM and Ctrl-C end it in order and leave jobs running; a second one ends it at once.`;

/** Adds `agent`. */
export function registerAgentCommands(program: Command, io: CliIo): void {
  const agent = program
    .command('agent')
    .description('Run the agent of this host. It enrols with --token at its first start and needs none later.')
    .addHelpText('after', EXAMPLES);
  const options = addConfigOptions(agent, agentConfig, io);
  registerLogLevel(agent, io);
  agent.action(async () => {
    using hangups = new Hangups();
    const read = async () => (await options.load()).config;
    await start(await read(), read, hangups, io);
  });
}

async function start(
  config: AgentConfig,
  reread: () => Promise<AgentConfig>,
  hangups: Hangups,
  io: CliIo,
): Promise<void> {
  if (config.controllerUrl === undefined) {
    throw new LonglineError(
      'invalid',
      'controller: no controller to dial; give --controller URL or LONGLINE_CONTROLLER',
    );
  }
  using interrupt = new InterruptGuard();
  using _ = new ShutdownLimit(interrupt.signal, () => config.shutdownLimitMs, 'shutdown.limit');
  const { runAgent } = await import('../../agent/agent.ts');
  try {
    await runAgent({ config, reread, hangups, environment: io.env }, interrupt.signal);
  } catch (error) {
    if (error !== interrupt.signal.reason) throw error;
  }
}
