// `longline agents events`: what happened on hosts outside any command.
import type { Command } from 'commander';
import type { AgentEvent } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { withFleet } from '../fleet-connection.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { countValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText } from '../table.ts';
import { eventView } from '../views.ts';

interface EventsOptions {
  readonly follow?: boolean;
  readonly limit: number;
}

/** Adds `agents events`. */
export function registerEvents(agents: Command, io: CliIo): void {
  agents
    .command('events [agent]')
    .description('Show what happened on hosts outside any command, oldest first: an engine lost, a policy read anew.')
    .option('-f, --follow', 'go on with new events until Ctrl-C. JSON: one object a line')
    .option('--limit <n>', 'most events that are kept already', countValue(0, 1000), 100)
    .addHelpText('after', '\nExamples:\n  longline agents events web-1\n  longline agents events --follow')
    .action(async (agentId: string | undefined, options: EventsOptions, command: Command) => {
      if (options.follow === true) return await follow(io, command, agentId ?? '', options.limit);
      await list(io, command, agentId ?? '', options.limit);
    });
}

async function list(io: CliIo, command: Command, agentId: string, limit: number): Promise<void> {
  const found = await withFleet(io, command, async (fleet) =>
    limit === 0
      ? []
      : await readPages(limit, async (pageToken, pageSize) => {
          const page = await fleet.agents.listEvents({ agentId, pageToken, pageSize });
          return { items: page.events, nextPageToken: page.nextPageToken };
        }),
  );
  const events = found.toReversed();
  if (io.json) return await io.stdout.line(toJson(events.map(eventView)));
  for (const event of events) await io.stdout.line(lineOf(event));
  if (events.length === 0) await io.note('no events');
}

async function follow(io: CliIo, command: Command, agentId: string, backlog: number): Promise<void> {
  using interrupt = new InterruptGuard();
  await withFleet(io, command, async (fleet) => {
    await fleet.bringUp();
    const events = fleet.streams.agents.watchEvents({ agentId, backlog }, { signal: interrupt.signal });
    try {
      for await (const { event } of events) {
        if (io.stdout.closed.aborted) return;
        await io.stdout.line(io.json ? toJson(eventView(event!)) : lineOf(event!));
      }
    } catch (error) {
      throw interrupt.signal.aborted ? interrupt.signal.reason : error;
    }
  });
}

function lineOf(event: AgentEvent): string {
  const { time, agent, type, message, attributes } = eventView(event);
  const facts = Object.entries(attributes).map(([name, value]) => ` ${name}=${value}`);
  return plainText(`${time ?? '-'}  ${agent}  ${type}  ${message}${facts.join('')}`);
}
