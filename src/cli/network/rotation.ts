// `longline network rotate-key|rotations`: replacing keys of members of meshes.
import type { Command } from 'commander';
import type { Rotation } from '#gen/longline/fleet/v1/network_service_pb.js';
import { RotationStep } from '#gen/longline/fleet/v1/network_service_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { type CliIo, toJson } from '../io.ts';
import { countValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText } from '../table.ts';
import { addWaitOptions, type WaitOptions, waitFor } from '../waiting.ts';
import { rotationColumns, rotationView, stepName, waitingText } from './fleet-views.ts';

const HELP = `
Each peer first learns the new key, then the agent takes it, then its addresses move to it, and last the old one is forgotten.
A member that is away is waited for; it may leave the mesh, and then is not. Until the last step it can be turned back.

Examples:
  longline network rotate-key --mesh office --agent web-1 --wait
  longline network rotate-key --mesh office
  longline network rotate-key --undo 01890000-0000-7000-8000-000000000000`;

interface RotateOptions extends WaitOptions {
  readonly mesh?: string;
  readonly agent?: string;
  readonly undo?: string;
}

/** Adds `rotate-key` and `rotations`. */
export function registerRotation(network: Command, io: CliIo): void {
  const rotate = network
    .command('rotate-key')
    .description('Replace the key of a member of a mesh, or of all, one after the other.')
    .option('--mesh <name>', 'which mesh')
    .option('--agent <id>', 'only of this member')
    .option('--undo <rotation>', 'turn this rotation back');
  addWaitOptions(rotate, 'it is over')
    .addHelpText('after', HELP)
    .action(async (options: RotateOptions, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        const begun = await begin(fleet, options);
        const ids = new Set(begun.map(({ id }) => id));
        await tell(io, options.wait ? await over(fleet, begun[0]?.mesh ?? '', ids, options.limit) : begun);
      });
    });
  network
    .command('rotations')
    .description('List rotations of keys, newest first.')
    .option('--mesh <name>', 'only of this mesh')
    .option('--active', 'only those that go on')
    .option('--limit <n>', 'most rotations; 0 for all', countValue(0, 1_000_000), 100)
    .action(async (options: { mesh?: string; active?: boolean; limit: number }, command: Command) => {
      const { active = false, limit, mesh = '' } = options;
      const rotations = await withFleet(io, command, (fleet) => list(fleet, mesh, active, limit));
      if (io.json) return await io.stdout.line(toJson(rotations.map(rotationView)));
      await io.list(rotations, rotationColumns(Date.now()), 'no rotations; `longline network rotate-key` begins one');
    });
}

async function begin(fleet: Fleet, { agent, mesh, undo }: RotateOptions): Promise<readonly Rotation[]> {
  if ((mesh === undefined) === (undo === undefined)) {
    throw new LonglineError('invalid', 'say which: --mesh to replace keys there, or --undo to turn a rotation back');
  }
  if (undo !== undefined) {
    if (agent !== undefined) throw new LonglineError('invalid', '--agent is for --mesh, not for --undo');
    return [(await fleet.networks.undoRotation({ id: undo })).rotation!];
  }
  return (await fleet.networks.rotateKey({ mesh: mesh!, agentId: agent ?? '' })).rotations;
}

async function list(fleet: Fleet, mesh: string, active: boolean, limit: number): Promise<readonly Rotation[]> {
  return await readPages(limit, async (pageToken, pageSize) => {
    const page = await fleet.networks.listRotations({ mesh, active, pageToken, pageSize });
    return { items: page.rotations, nextPageToken: page.nextPageToken };
  });
}

/** The rotations once they have ended. Throws `late` with whom they wait for. */
async function over(
  fleet: Fleet,
  mesh: string,
  ids: ReadonlySet<string>,
  limitMs: number,
): Promise<readonly Rotation[]> {
  let open: readonly Rotation[] = [];
  return await waitFor(
    fleet,
    limitMs,
    async () => {
      open = (await list(fleet, mesh, true, 0)).filter(({ id }) => ids.has(id));
      if (open.length > 0) return undefined;
      return (await list(fleet, mesh, false, 0)).filter(({ id }) => ids.has(id));
    },
    () => {
      const active = open.find(({ step }) => step !== RotationStep.UNSPECIFIED) ?? open[0]!;
      const waits = active.waitingFor.length === 0 ? '' : `, waiting for ${waitingText(active.waitingFor)}`;
      return `the key of ${active.agentId} is at step ${stepName(active)}${waits}`;
    },
  );
}

async function tell(io: CliIo, rotations: readonly Rotation[]): Promise<void> {
  if (io.json) return await io.stdout.line(toJson(rotations.map(rotationView)));
  for (const rotation of rotations) {
    const { agentId, id, waitingFor } = rotation;
    const waits = waitingFor.length === 0 ? '' : `, waiting for ${waitingText(waitingFor)}`;
    await io.stdout.line(plainText(`${id} ${agentId}: ${stepName(rotation)}${waits}`));
  }
}
