// `longline program rollout …`: changes of assignments on their way over the fleet.
import type { Command } from 'commander';
import { type Rollout, RolloutState } from '#gen/longline/fleet/v1/program_service_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, EXIT, toJson } from '../io.ts';
import { ReconnectBudget } from '../job/reconnect-budget.ts';
import { countValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText } from '../table.ts';
import { ROLLOUT_AGENT_COLUMNS, rolloutColumns, rolloutLine, rolloutView } from './rollout-views.ts';

/** Nothing more comes of these by itself. */
const ENDED: ReadonlySet<RolloutState> = new Set([
  RolloutState.DONE,
  RolloutState.ROLLED_BACK,
  RolloutState.SUPERSEDED,
  RolloutState.HALTED,
]);

/** Adds `rollout` with what can be done to them. */
export function registerRollouts(group: Command, io: CliIo): void {
  const rollout = group.command('rollout').description('Changes of assignments on their way over the fleet.');
  registerReading(rollout, io);
  registerSteering(rollout, io);
}

function registerReading(rollout: Command, io: CliIo): void {
  rollout
    .command('ls')
    .description('List rollouts, newest first.')
    .option('--assignment <name>', 'only of this assignment', '')
    .option('--limit <n>', 'most rollouts; 0 for all', countValue(0, 1_000_000), 100)
    .action(async ({ assignment, limit }: { assignment: string; limit: number }, command: Command) => {
      const rollouts = await withFleet(io, command, (fleet) =>
        readPages(limit, async (pageToken, pageSize) => {
          const page = await fleet.programs.listRollouts({ assignment, pageToken, pageSize });
          return { items: page.rollouts, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(rollouts.map(rolloutView)));
      await io.list(rollouts, rolloutColumns(Date.now()), 'no rollouts; `longline program assign` begins one');
    });
  rollout
    .command('show <id>')
    .description('Show a rollout with its agents.')
    .action(async (id: string, _options: object, command: Command) => {
      const found = (await withFleet(io, command, (fleet) => fleet.programs.getRollout({ id }))).rollout!;
      if (io.json) return await io.stdout.line(toJson(rolloutView(found)));
      await io.stdout.line(plainText(rolloutLine(found)));
      await io.list(found.agents, ROLLOUT_AGENT_COLUMNS, 'no agents');
    });
  rollout
    .command('watch <id>')
    .description('Follow a rollout until it has ended or is halted. Ctrl-C leaves; it goes on.')
    .action(async (id: string, _options: object, command: Command) => {
      await withFleet(io, command, (fleet) => followRollout(io, fleet, id));
    });
}

function registerSteering(rollout: Command, io: CliIo): void {
  const tell = async (answer: { readonly rollout?: Rollout | undefined }) => {
    await io.result(rolloutView(answer.rollout!), () => plainText(rolloutLine(answer.rollout!)));
  };
  rollout
    .command('pause <id>')
    .description('Begin no further wave until it is resumed.')
    .action(async (id: string, _options: object, command: Command) => {
      await tell(await withFleet(io, command, (fleet) => fleet.programs.pauseRollout({ id })));
    });
  rollout
    .command('resume <id>')
    .description('Go on: after a pause, or past a wave that waits for it.')
    .action(async (id: string, _options: object, command: Command) => {
      await tell(await withFleet(io, command, (fleet) => fleet.programs.resumeRollout({ id })));
    });
  rollout
    .command('abort <id>')
    .description('End it, and give every agent back what it had before.')
    .option('--reason <text>', 'why, for others to read', '')
    .action(async (id: string, { reason }: { reason: string }, command: Command) => {
      await tell(await withFleet(io, command, (fleet) => fleet.programs.abortRollout({ id, reason })));
    });
}

/** Tells of each change until the rollout has ended, over as many connections as it takes. Sets the exit code if it isn't done. */
export async function followRollout(io: CliIo, fleet: Fleet, id: string): Promise<void> {
  using interrupt = new InterruptGuard();
  const leaving = AbortSignal.any([interrupt.signal, io.stdout.closed]);
  const budget = new ReconnectBudget();
  let last: Rollout | undefined;
  let told = '';
  while (last === undefined || !ENDED.has(last.state)) {
    try {
      await fleet.bringUp();
      for await (const { rollout } of fleet.streams.programs.watchRollout({ id }, { signal: leaving })) {
        budget.progress();
        last = rollout!;
        const line = plainText(rolloutLine(last));
        if (line !== told) await io.stdout.line(io.json ? toJson(rolloutView(last)) : line);
        told = line;
        // A halted one may go on, and so its watch does not end.
        if (ENDED.has(last.state)) break;
      }
      // One that ends early, as a controller that stops does it, must not be asked again without a pause.
      if (last === undefined || !ENDED.has(last.state)) throw new LonglineError('unavailable', 'the controller left');
    } catch (error) {
      if (leaving.aborted) break;
      await budget.wait(error, (thrown) => fleet.toError(thrown), leaving);
    }
  }
  if (interrupt.signal.aborted) throw interrupt.signal.reason;
  if (last !== undefined && last.state !== RolloutState.DONE) io.exitCode = EXIT.failed;
}
