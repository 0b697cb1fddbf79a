// `longline program artifact …`: artifacts that the controller has.
import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Artifact } from '#gen/longline/fleet/v1/program_service_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { ageOf } from '../age.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { type CliIo, toJson } from '../io.ts';
import { countValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText, type TableColumn } from '../table.ts';
import { uploadArtifact } from './artifact-upload.ts';
import { artifactView } from './views.ts';

/** Adds `artifact` with what can be done to them. */
export function registerArtifacts(group: Command, io: CliIo): void {
  const artifact = group.command('artifact').description('Artifacts that the controller has.');
  artifact
    .command('upload <file...>')
    .description('Store artifacts. The same bytes again change nothing.')
    .action(async (files: string[], _options: object, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        for (const file of files) {
          const { artifact: stored, created } = await uploadArtifact(fleet, file);
          await io.result({ ...artifactView(stored), created }, () =>
            plainText(
              `${stored.digest} ${stored.metadata?.name} ${stored.metadata?.version}${created ? '' : ' (was there)'}`,
            ),
          );
        }
      });
    });
  artifact
    .command('ls')
    .description('List artifacts, newest first.')
    .option('--name <name>', 'only with this name', '')
    .option('--limit <n>', 'most artifacts; 0 for all', countValue(0, 1_000_000), 100)
    .action(async ({ limit, name }: { limit: number; name: string }, command: Command) => {
      const artifacts = await withFleet(io, command, (fleet) =>
        readPages(limit, async (pageToken, pageSize) => {
          const page = await fleet.programs.listArtifacts({ name, pageToken, pageSize });
          return { items: page.artifacts, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(artifacts.map(artifactView)));
      await io.list(artifacts, columns(Date.now()), 'no artifacts; `longline program artifact upload` stores one');
    });
  artifact
    .command('get <digest>')
    .description('Show an artifact, or write it to a file.')
    .option('--out <path>', 'write its bytes to this new file')
    .action(async (digest: string, { out }: { out?: string }, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        const found = (await fleet.programs.getArtifact({ digest })).artifact!;
        if (out !== undefined) await download(fleet, found.digest, out);
        const view = artifactView(found);
        await io.result(view, () =>
          out === undefined ? JSON.stringify(view, undefined, 2) : `${found.digest} written to ${out}`,
        );
      });
    });
  artifact
    .command('rm <digest...>')
    .description('Forget artifacts. Refused while a program or assignment wants them.')
    .action(async (digests: string[], _options: object, command: Command) => {
      const removed: string[] = [];
      await withFleet(io, command, async (fleet) => {
        // All of them first: one that isn't there, or that several begin like, must not come up half way.
        for (const digest of digests) removed.push((await fleet.programs.getArtifact({ digest })).artifact!.digest);
        for (const digest of removed) await fleet.programs.deleteArtifact({ digest });
      });
      await io.result({ removed }, () => plainText(`${removed.join(', ')} removed`));
    });
}

/** A file that is cut, or isn't what it should be, does not stay. */
async function download(fleet: Fleet, digest: string, path: string): Promise<void> {
  await fleet.bringUp();
  await using file = await open(path, 'wx').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'EEXIST')
      throw new LonglineError('already_exists', `--out ${path}: is there already`, { cause });
    throw new LonglineError('invalid', `--out ${path}: can't be written: ${cause.message}`, { cause });
  });
  try {
    const hash = createHash('sha256');
    for await (const { data } of fleet.streams.programs.downloadArtifact({ digest })) {
      hash.update(data);
      await file.writeFile(data);
    }
    const got = `sha256:${hash.digest('hex')}`;
    if (got !== digest)
      throw new LonglineError('internal', `the controller sent ${got} for ${digest}; nothing is kept`);
    await file.sync();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

function columns(nowMs: number): readonly TableColumn<Artifact>[] {
  return [
    { heading: 'digest', value: ({ digest }) => digest.slice(0, 19) },
    { heading: 'name', value: ({ metadata }) => metadata?.name ?? '' },
    { heading: 'version', value: ({ metadata }) => metadata?.version ?? '' },
    { heading: 'bytes', align: 'right', value: ({ size }) => String(size) },
    { heading: 'signed by', value: ({ signers }) => signers.join(' ') || '(nobody)' },
    { heading: 'stored', value: ({ createTime }) => ageOf(createTime, nowMs) },
  ];
}
