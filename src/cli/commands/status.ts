// `longline status`: the agent on this host, asked over its unix socket.
import type { Command } from 'commander';
import { type GetStatusResponse, LocalService } from '#gen/longline/local/v1/local_pb.js';
import { ageOf } from '../age.ts';
import { globalOptions } from '../global-options.ts';
import { type CliIo, toJson } from '../io.ts';
import { LocalClient, localSocketPath } from '../local-client.ts';
import { showHealth } from '../local-health.ts';
import { plainText } from '../table.ts';
import { timeView, usageView } from '../views.ts';

interface StatusOptions {
  readonly socket?: string;
  readonly dataDir?: string;
}

const DEFAULT_DATA_DIR = '/var/lib/longline';

/** Adds `status`. */
export function registerStatusCommands(program: Command, io: CliIo): void {
  program
    .command('status')
    .description('Show the state of the agent on this host: link, certificate, load, capabilities.')
    .option('--socket <path>', 'unix socket of the agent (env LONGLINE_LOCAL_SOCKET)')
    .option(
      '--data-dir <path>',
      `data folder of the agent, to find its socket (env LONGLINE_DATA_DIR, default ${DEFAULT_DATA_DIR})`,
    )
    .option('--commands', 'list the commands it has not finished instead')
    .option('--health', 'show every check of its health instead; exits with 1 if one has failed')
    .addHelpText('after', '\nExamples:\n  longline status\n  longline status --data-dir ./agent --commands --json')
    .action(async (options: StatusOptions & { commands?: boolean; health?: boolean }, command: Command) => {
      using client = openLocal(io, options, globalOptions(command, io).timeoutMs);
      if (options.commands) await showCommands(io, client);
      else if (options.health) await showHealth(io, client);
      else await showStatus(io, client);
    });
}

/** The client for the socket that options and environment name. */
export function openLocal(io: CliIo, options: StatusOptions, timeoutMs: number): LocalClient {
  const dataDir = options.dataDir ?? (io.env['LONGLINE_DATA_DIR'] || DEFAULT_DATA_DIR);
  const told =
    options.socket ?? (options.dataDir === undefined ? io.env['LONGLINE_LOCAL_SOCKET'] || undefined : undefined);
  return new LocalClient(localSocketPath(told, dataDir), timeoutMs);
}

async function showStatus(io: CliIo, client: LocalClient): Promise<void> {
  const status = await client.call(LocalService.method.getStatus, {});
  const view = {
    agent: status.agentId,
    instance_id: status.instanceId,
    link_state: status.linkState,
    link_reason: status.linkReason || null,
    controller: status.controller,
    version: status.facts?.version ?? null,
    capabilities: (status.facts?.capabilities ?? []).map(({ name, available, reason, mend }) => ({
      name,
      available,
      reason,
      mend,
    })),
    usage: status.usage === undefined ? null : usageView(status.usage),
    leadership: leadershipView(status),
    started_at: timeView(status.startTime),
    certificate_expires_at: timeView(status.certificateExpireTime),
  };
  await io.result(view, () => describe(io, status));
}

function leadershipView({ leadership }: GetStatusResponse) {
  if (leadership === undefined) return null;
  const { role, epoch, leader, backend, problem } = leadership;
  return { role, epoch: Number(epoch), leader: leader || null, backend, problem: problem || null };
}

function describe(io: CliIo, status: GetStatusResponse): string {
  const nowMs = Date.now();
  const { usage } = status;
  const state = status.linkState === 'open' ? io.paint('green', 'open') : io.paint('yellow', status.linkState);
  const lines = [
    `agent        ${plainText(status.agentId)} (up since ${ageOf(status.startTime, nowMs)})`,
    `controller   ${plainText(status.controller)}`,
    `link         ${state}${status.linkReason === '' ? '' : `: ${plainText(status.linkReason)}`}`,
    `certificate  ends ${ageOf(status.certificateExpireTime, nowMs)}`,
  ];
  const { leadership } = status;
  if (leadership !== undefined) {
    const leader = leadership.leader === '' ? 'nobody that is known' : plainText(leadership.leader);
    const problem = leadership.problem === '' ? '' : `: ${plainText(leadership.problem)}`;
    lines.push(
      `replica      ${leadership.role} (epoch ${leadership.epoch}, led by ${leader}, ${leadership.backend}${problem})`,
    );
  }
  if (usage !== undefined) {
    lines.push(`jobs         ${usage.runningJobs} of ${usage.maxJobs} run, ${usage.queuedJobs} wait`);
  }
  for (const { name, available, reason, mend } of status.facts?.capabilities ?? []) {
    lines.push(plainText(`${name.padEnd(12)} ${available ? 'available' : `unavailable: ${reason}; ${mend}`}`));
  }
  return lines.join('\n');
}

async function showCommands(io: CliIo, client: LocalClient): Promise<void> {
  const { commands } = await client.call(LocalService.method.listCommands, {});
  if (io.json) {
    const views = commands.map(({ id, capability, state, receiveTime }) => ({
      id,
      capability,
      state,
      received_at: timeView(receiveTime),
    }));
    return await io.stdout.line(toJson(views));
  }
  const nowMs = Date.now();
  const columns = [
    { heading: 'command', value: (command: (typeof commands)[number]) => command.id },
    { heading: 'capability', value: (command: (typeof commands)[number]) => command.capability },
    { heading: 'state', value: (command: (typeof commands)[number]) => command.state },
    { heading: 'received', value: (command: (typeof commands)[number]) => ageOf(command.receiveTime, nowMs) },
  ];
  await io.list(commands, columns, 'no unfinished commands');
}
