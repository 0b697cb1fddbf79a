// `longline agents`: the agents of a fleet.
import type { Command } from 'commander';
import type { AgentCertificate } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { type Agent, AgentState } from '#gen/longline/v1/agent_pb.js';
import { formatByteSize } from '../../core/byte-size.ts';
import { LonglineError } from '../../core/errors.ts';
import { ageOf } from '../age.ts';
import { withFleet } from '../fleet-connection.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, type TableColumn, toJson } from '../io.ts';
import { countValue, type SelectorValue, selectorValue, wordValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText } from '../table.ts';
import { agentStateName, agentView, certificateView } from '../views.ts';
import { registerEvents } from './agent-events.ts';

const STATES = {
  enrolled: AgentState.ENROLLED,
  online: AgentState.ONLINE,
  offline: AgentState.OFFLINE,
  draining: AgentState.DRAINING,
  revoked: AgentState.REVOKED,
};

/** Adds `agents`. */
export function registerAgentsCommands(program: Command, io: CliIo): void {
  const agents = program
    .command('agents')
    .description('List and manage the agents of a fleet.')
    .addHelpText(
      'after',
      '\nExamples:\n  longline agents ls --selector zone=eu,gpu\n  longline agents drain web-1 --reason "new disk"',
    );
  registerReading(agents, io);
  registerEvents(agents, io);
  registerChanging(agents, io);
}

function registerReading(agents: Command, io: CliIo): void {
  agents
    .command('ls')
    .description('List agents, ordered by id.')
    .option('-l, --selector <selector>', 'only agents that match, like "zone=eu,gpu,id:web-1"', selectorValue)
    .option('--state <state>', 'only agents in this state', wordValue(STATES))
    .option('--limit <n>', 'most agents; 0 for all', countValue(0, 1_000_000), 0)
    .action(async (options: { selector?: SelectorValue; state?: AgentState; limit: number }, command: Command) => {
      const found = await withFleet(io, command, (fleet) =>
        readPages(options.limit, async (pageToken, pageSize) => {
          const { selector, state } = options;
          const states = state === undefined ? [] : [state];
          const page = await fleet.agents.listAgents({ pageToken, pageSize, states, ...(selector && { selector }) });
          return { items: page.agents, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(found.map(agentView)));
      await io.list(found, agentColumns(Date.now()), 'no agents; `longline token create` makes a token to enrol one');
    });
  agents
    .command('get <agent>')
    .description('Show one agent with its capabilities.')
    .action(async (agentId: string, _options: object, command: Command) => {
      const { agent, certificates } = await withFleet(io, command, (fleet) => fleet.agents.getAgent({ agentId }));
      const view = { ...agentView(agent!), certificates: certificates.map(certificateView) };
      await io.result(view, () => describe(agent!, certificates));
    });
  agents
    .command('watch')
    .description('Show the agents that match and then every change, until Ctrl-C. JSON: one object a line.')
    .option('-l, --selector <selector>', 'only agents that match', selectorValue)
    .action(
      async (options: { selector?: SelectorValue }, command: Command) => await watch(io, command, options.selector),
    );
}

async function watch(io: CliIo, command: Command, selector: SelectorValue | undefined): Promise<void> {
  using interrupt = new InterruptGuard();
  await withFleet(io, command, async (fleet) => {
    await fleet.bringUp();
    const changes = fleet.streams.agents.watchAgents(selector === undefined ? {} : { selector }, {
      signal: interrupt.signal,
    });
    try {
      for await (const { change } of changes) {
        if (io.stdout.closed.aborted) return;
        if (change.case === 'agent') await showChange(io, change.value);
        else if (change.case === 'removedAgentId') {
          const id = change.value;
          await io.stdout.line(io.json ? toJson({ change: 'removed', id }) : `${plainText(id)}  removed`);
        } else if (change.case === 'synced' && io.json) await io.stdout.line(toJson({ change: 'synced' }));
      }
    } catch (error) {
      throw interrupt.signal.aborted ? interrupt.signal.reason : error;
    }
  });
}

async function showChange(io: CliIo, agent: Agent): Promise<void> {
  if (io.json) return await io.stdout.line(toJson({ change: 'agent', ...agentView(agent) }));
  const why = agent.stateReason === '' ? '' : `  (${agent.stateReason})`;
  await io.stdout.line(plainText(`${agent.id}  ${agentStateName(agent.state)}${why}`));
}

function registerChanging(agents: Command, io: CliIo): void {
  const changed = async (agent: Agent | undefined, done: string): Promise<void> =>
    await io.result(agentView(agent!), () => plainText(`${agent!.id} ${done}`));
  agents
    .command('label <agent> <change...>')
    .description('Set labels with KEY=VALUE, remove them with KEY-.')
    .addHelpText('after', '\nExample:\n  longline agents label web-1 zone=eu canary-')
    .action(async (agentId: string, changes: string[], _options: object, command: Command) => {
      const { set, remove } = labelChanges(changes, command);
      const { agent } = await withFleet(io, command, (fleet) => fleet.agents.labelAgent({ agentId, set, remove }));
      await changed(agent, 'labelled');
    });
  for (const [name, resume, done] of [
    ['drain', false, 'takes no new commands'],
    ['resume', true, 'takes commands again'],
  ] as const) {
    agents
      .command(`${name} <agent>`)
      .description(resume ? 'End the drain of an agent.' : 'Give no new commands to an agent; what runs there goes on.')
      .option('--reason <text>', 'why, for others to read', '')
      .action(async (agentId: string, { reason }: { reason: string }, command: Command) => {
        const { agent } = await withFleet(io, command, (fleet) => fleet.agents.drainAgent({ agentId, resume, reason }));
        await changed(agent, done);
      });
  }
  agents
    .command('revoke <agent>')
    .description("End an agent's credentials and link; what runs there goes on. It must enrol anew to come back.")
    .option('--reason <text>', 'why, for others to read', '')
    .option(
      '--replica <instance-id>',
      'only the certificates of this replica, and the token it enrolled with; see `agents get`',
    )
    .action(async (agentId: string, options: { reason: string; replica?: string }, command: Command) => {
      const { reason, replica: instanceId = '' } = options;
      // An unset variable of a script would end the whole agent.
      if (options.replica === '') {
        throw new LonglineError(
          'invalid',
          '--replica: is empty; name a replica, or leave it out to revoke the whole agent',
        );
      }
      const request = { agentId, reason, instanceId };
      const { agent } = await withFleet(io, command, (fleet) => fleet.agents.revokeAgent(request));
      await changed(agent, instanceId === '' ? 'revoked' : `lost its replica ${instanceId}`);
    });
  agents
    .command('delete <agent>')
    .description('Forget an agent that is offline.')
    .action(async (agentId: string, _options: object, command: Command) => {
      await withFleet(io, command, (fleet) => fleet.agents.deleteAgent({ agentId }));
      await io.result({ id: agentId, deleted: true }, () => plainText(`${agentId} deleted`));
    });
}

/** "zone=eu" sets, "zone-" removes. */
export function labelChanges(
  changes: readonly string[],
  command: Command,
): { set: Record<string, string>; remove: string[] } {
  const set: Record<string, string> = {};
  const remove: string[] = [];
  for (const change of changes) {
    const match = /^([A-Za-z0-9._/-]{1,63})(?:=(.{0,255})|-)$/s.exec(change);
    if (match === null) command.error(`error: ${JSON.stringify(change)} is neither KEY=VALUE nor KEY-`);
    else if (match[2] === undefined) remove.push(match[1]!);
    else set[match[1]!] = match[2];
  }
  return { set, remove };
}

function agentColumns(nowMs: number): readonly TableColumn<Agent>[] {
  return [
    { heading: 'agent', value: (agent) => agent.id },
    { heading: 'state', value: (agent) => agentStateName(agent.state) },
    { heading: 'jobs', align: 'right', value: ({ usage }) => (usage ? `${usage.runningJobs}/${usage.maxJobs}` : '-') },
    {
      heading: 'sessions',
      align: 'right',
      value: ({ usage }) => {
        const room = usage?.sessionCapacity;
        return room === undefined ? '-' : `${room.held}/${room.maxSessions}`;
      },
    },
    { heading: 'platform', value: ({ facts }) => facts?.platform ?? '-' },
    { heading: 'region', value: ({ facts }) => facts?.region || '-' },
    { heading: 'version', value: ({ facts }) => facts?.version ?? '-' },
    { heading: 'seen', value: ({ seenTime }) => ageOf(seenTime, nowMs) },
    { heading: 'labels', value: ({ labels }) => pairs(labels) },
  ];
}

/** One for each replica that has certificates. */
function replicaRows(agent: Agent, certificates: readonly AgentCertificate[]): [string, string][] {
  const replicas = Map.groupBy(certificates, ({ instanceId }) => instanceId);
  return [...replicas].map(([instanceId, own]) => {
    const serials = own.map(({ serial, expireTime }) => `${serial} (${ageOf(expireTime, Date.now())})`);
    const linked = agent.state === AgentState.ONLINE && instanceId === agent.instanceId ? ', holds the link' : '';
    return ['replica', `${instanceId}${linked}, certificates ${serials.join(', ')}`];
  });
}

function pairs(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(',');
}

function describe(agent: Agent, certificates: readonly AgentCertificate[]): string {
  const { facts, usage } = agent;
  const rows: [string, string][] = [
    ['agent', agent.id],
    ['state', `${agentStateName(agent.state)}${agent.stateReason === '' ? '' : ` (${agent.stateReason})`}`],
    ['labels', pairs(agent.labels) || '-'],
    [
      'host',
      facts === undefined ? '-' : `${facts.hostname}, ${facts.platform}, ${facts.kernel}, ${facts.cpuCount} CPUs`,
    ],
    ['version', facts?.version ?? '-'],
    ['seen', ageOf(agent.seenTime, Date.now())],
    ['certificate ends', ageOf(agent.certificateExpireTime, Date.now())],
    ...replicaRows(agent, certificates),
    ['jobs', usage === undefined ? '-' : `${usage.runningJobs} of ${usage.maxJobs} run, ${usage.queuedJobs} wait`],
  ];
  const room = usage?.sessionCapacity;
  if (room !== undefined) {
    const memory = [room.memoryReservedBytes, room.maxMemoryBytes].map((bytes) => formatByteSize(Number(bytes)));
    rows.push(
      ['sessions', `${room.held} of ${room.maxSessions} places, ${room.running} run, ${room.asleep} asleep`],
      ['for sessions', `${room.cpusReserved} of ${room.maxCpus} cpus, ${memory.join(' of ')} memory reserved`],
    );
  }
  for (const capability of facts?.capabilities ?? []) {
    const state = capability.available ? 'available' : `unavailable: ${capability.reason}; ${capability.mend}`;
    rows.push([`capability ${capability.name}`, state]);
  }
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => plainText(`${name.padEnd(width)}  ${value}`)).join('\n');
}
