// `longline session ls|get|watch|top|logs`.
import type { Command } from 'commander';
import type { SessionUsage } from '#gen/longline/fleet/v1/session_service_pb.js';
import { systemClock } from '../../core/clock.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { countValue, durationValue, wordValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { describeSession, sessionColumns, stateText, usageColumns } from '../session/columns.ts';
import { addFilterOptions, type FilterOptions, filterOf } from '../session/filter-options.ts';
import { type SessionLogsOptions, showSessionLogs } from '../session/logs.ts';
import { causeName, sessionUsageView, sessionView } from '../session/views.ts';
import { plainText, renderTable } from '../table.ts';

const CLEAR_SCREEN = '\u001b[2J\u001b[H';

/** Adds the subcommands of `session` that look at sessions that exist. */
export function registerSessionReading(session: Command, io: CliIo): void {
  const ls = session.command('ls').description('List sessions, newest first; only those that live unless --all.');
  addFilterOptions(ls)
    .option('--limit <n>', 'most sessions; 0 for all', countValue(0, 1_000_000), 100)
    .addHelpText('after', '\nExamples:\n  longline session ls --agent web-1\n  longline session ls --state failed')
    .action(async (options: FilterOptions & { limit: number }, command: Command) => {
      const sessions = await withFleet(io, command, (fleet) =>
        readPages(options.limit, async (pageToken, pageSize) => {
          const page = await fleet.sessions.listSessions({ filter: filterOf(options), pageToken, pageSize });
          return { items: page.sessions, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(sessions.map(sessionView)));
      await io.list(sessions, sessionColumns(Date.now()), 'no sessions; `longline session start` starts one');
    });
  session
    .command('get <session>')
    .description('Show one session.')
    .action(async (sessionId: string, _options: object, command: Command) => {
      const { session: found } = await withFleet(io, command, (fleet) => fleet.sessions.getSession({ sessionId }));
      await io.result(sessionView(found!), () => describeSession(found!, Date.now()));
    });
  registerWatch(session, io);
  registerTop(session, io);
  registerLogs(session, io);
}

function registerWatch(session: Command, io: CliIo): void {
  const watch = session
    .command('watch')
    .description('Show the sessions that match and then every change, until Ctrl-C. JSON: one object a line.');
  addFilterOptions(watch).action(async (options: FilterOptions, command: Command) => {
    using interrupt = new InterruptGuard();
    await withFleet(io, command, async (fleet) => {
      await fleet.bringUp();
      const request = { filter: filterOf(options) };
      try {
        for await (const { change } of fleet.streams.sessions.watchSessions(request, { signal: interrupt.signal })) {
          if (io.stdout.closed.aborted) return;
          if (change.case === 'session') {
            const { id, agentId, status } = change.value;
            const cause = causeName(status?.cause ?? 0).replaceAll('_', ' ');
            const why = [cause, status?.reason].filter(Boolean).join(': ');
            const text = `${id}  ${stateText(change.value)}  ${agentId}${why === '' ? '' : `  (${why})`}`;
            const view = { change: 'session', ...sessionView(change.value) };
            await io.stdout.line(io.json ? toJson(view) : plainText(text));
          } else if (change.case === 'removedSessionId') {
            const id = change.value;
            await io.stdout.line(io.json ? toJson({ change: 'removed', id }) : `${plainText(id)}  gone`);
          } else if (change.case === 'synced' && io.json) await io.stdout.line(toJson({ change: 'synced' }));
        }
      } catch (error) {
        throw interrupt.signal.aborted ? interrupt.signal.reason : error;
      }
    });
  });
}

interface TopOptions extends FilterOptions {
  readonly limit: number;
  readonly watch?: boolean;
  readonly interval: number;
}

function registerTop(session: Command, io: CliIo): void {
  const top = session.command('top').description('Show what sessions use: processor, memory, network, disk, tunnels.');
  addFilterOptions(top)
    .option('--limit <n>', 'most sessions; 0 for all', countValue(0, 1_000_000), 100)
    .option('--watch', 'again and again, until Ctrl-C')
    .option('--interval <duration>', 'with --watch: how often', durationValue, 2000)
    .addHelpText('after', '\nExample:\n  longline session top --agent web-1 --watch')
    .action(async (options: TopOptions, command: Command) => {
      using interrupt = new InterruptGuard();
      await withFleet(io, command, async (fleet) => {
        for (;;) {
          await showUsage(io, await usageOf(fleet, options), options.watch === true);
          if (!options.watch || io.stdout.closed.aborted) return;
          await systemClock.sleep(Math.max(options.interval, 100), interrupt.signal).catch((error: unknown) => {
            throw interrupt.signal.aborted ? interrupt.signal.reason : error;
          });
        }
      });
    });
}

async function usageOf(fleet: Fleet, options: TopOptions): Promise<readonly SessionUsage[]> {
  const found = await readPages(options.limit, async (pageToken, pageSize) => {
    const page = await fleet.sessions.listSessionUsage({ filter: filterOf(options), pageToken, pageSize });
    return { items: page.sessions, nextPageToken: page.nextPageToken };
  });
  return [...found].sort((left, right) => (right.sample?.cpus ?? -1) - (left.sample?.cpus ?? -1));
}

async function showUsage(io: CliIo, usage: readonly SessionUsage[], again: boolean): Promise<void> {
  if (io.json) return await io.stdout.line(toJson(usage.map(sessionUsageView)));
  if (usage.length === 0 && !again) return await io.note('no sessions');
  const width = io.stdout.isTty ? io.stdout.columns : undefined;
  const table = renderTable(usage, usageColumns, { width, heading: (text) => io.paint('bold', text) });
  await io.stdout.write(again && io.stdout.isTty ? CLEAR_SCREEN + table : table);
}

function registerLogs(session: Command, io: CliIo): void {
  session
    .command('logs <session>')
    .description('Show what the main process wrote; its standard error goes to standard error.')
    .option('-f, --follow', 'go on, over restarts and wakes, until the session has ended')
    .option(
      '--attempt <n>',
      'which start of the container, from 1; the latest if left out',
      countValue(1, 1_000_000_000),
    )
    .option('--stream <name>', 'stdout, stderr or all', wordValue({ stdout: ['stdout'], stderr: ['stderr'], all: [] }))
    .option('--timestamps', 'put the time it was read from the container before each line')
    .addHelpText(
      'after',
      '\nExamples:\n  longline session logs desk --follow\n  longline session logs desk --attempt 1',
    )
    .action(async (sessionId: string, options: SessionLogsOptions, command: Command) => {
      using interrupt = new InterruptGuard();
      await withFleet(io, command, (fleet) => showSessionLogs(io, fleet, sessionId, options, interrupt.signal));
    });
}
