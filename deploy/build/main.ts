// `npm run build`: makes the bundle that deploy/bin/longline runs services from, as dist/<fingerprint>. Does nothing if it
// is there. Bundles of other sources are removed but for the newest, which a running agent may still load from.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeBundle } from './bundle.ts';

const root = join(import.meta.dirname, '../..');
const dist = join(root, 'dist');

/** A build that is under way in another process isn't this old. */
const ABANDONED_MS = 10 * 60_000;

async function removeOld(current: string): Promise<void> {
  const others = await Promise.all(
    (await readdir(dist))
      .filter((name) => name !== current)
      .map(async (name) => ({ name, atMs: (await stat(join(dist, name))).mtimeMs })),
  );
  const abandoned = others.filter(({ name, atMs }) => name.startsWith('.') && atMs < Date.now() - ABANDONED_MS);
  const bundles = others.filter(({ name }) => !name.startsWith('.')).sort((one, other) => other.atMs - one.atMs);
  for (const { name } of [...abandoned, ...bundles.slice(1)])
    await rm(join(dist, name), { recursive: true, force: true });
}

const fingerprint = execFileSync(join(root, 'deploy/build/fingerprint'), { encoding: 'utf8', timeout: 60_000 }).trim();
const folder = join(dist, fingerprint);
if (existsSync(folder)) {
  process.stdout.write(`build: dist/${fingerprint} is up to date\n`);
} else {
  await mkdir(dist, { recursive: true });
  // Made beside and renamed: a bundle is whole or isn't there.
  const unfinished = await mkdtemp(join(dist, '.making-'));
  try {
    const inputs = await writeBundle(root, unfinished);
    // Services may run as another user.
    await chmod(unfinished, 0o755);
    await rename(unfinished, folder);
    process.stdout.write(`build: dist/${fingerprint} from ${inputs.length} files\n`);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  await removeOld(fingerprint);
}
