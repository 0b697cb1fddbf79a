import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { Attachments } from '../../../src/platform/ebpf/attachments.ts';
import { linkById, linkInfo, nextLinkId, pin } from '../../../src/platform/ebpf/bpf-syscall.ts';
import { hasTcx } from '../../../src/platform/ebpf/type-probes.ts';
import { KernelLab, kernelLabMissing, until } from '../../fixtures/bpf/kernel-lab.ts';
import { seededRandom } from '../../fixtures/seeded-random.ts';
import { LoadedObject } from './loaded-object.ts';

const KILLS = 10;
/** Where children are so slow that nothing is attached yet when they are killed. */
const MOST_KILLS = 200;
const CHILD = join(import.meta.dirname, 'attaching-child.ts');

const skip = kernelLabMissing() ?? false;

test('whenever it is killed, all that runs is found again and can be ended', { skip }, async (t) => {
  await using lab = await KernelLab.create();
  const folder = join(lab.pins, 'links');
  const programs = join(lab.pins, 'programs');
  mkdirSync(folder);
  mkdirSync(programs);
  const kinds = [
    ['xdp', 'xdp-counter'],
    ...(hasTcx() ? ([['tc', 'tc-counter']] as const) : []),
    ['clsact', 'tc-counter'],
    ['raw', 'raw-tracepoint'],
    ['perf', 'perf-event'],
  ] as const;
  using objects = new DisposableStack();
  const ids = new Set<number>();
  for (const [kind, name] of kinds) {
    for (const version of [0, 1]) {
      const { fd, id } = objects.use(new LoadedObject(name)).function();
      pin(fd, join(programs, `${kind}-${version}`));
      ids.add(id);
    }
  }
  const random = seededRandom(5);
  const attachments = new Attachments();
  let found = 0;
  let kills = 0;
  for (; kills < KILLS || (found === 0 && kills < MOST_KILLS); kills++) {
    const child = spawn(process.execPath, [CHILD, folder, programs], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(child, 'exit');
    await once(child.stdout, 'data');
    await delay(random() * 200);
    child.kill('SIGKILL');
    const [, signal] = await ended;
    assert.equal(signal, 'SIGKILL', 'it ended by itself');
    const listed = attachments.list(folder);
    found += listed.length;
    assert.deepEqual(
      listed.map(({ slot }) => slot),
      readdirSync(folder),
    );
    for (const { programId, slot } of listed) assert.ok(ids.has(programId), `${slot} runs ${programId}`);
    const linked = new Set(listed.filter(({ linkId }) => linkId !== 0).map(({ programId }) => programId));
    // The kernel gets round to what a killed process was about to end a little later.
    await until('links that nobody has', () => isDeepStrictEqual(new Set(linksOf(ids).values()), linked));
    for (const { slot } of listed) attachments.detach(join(folder, slot));
    assert.equal(linksOf(ids).size, 0);
    assert.doesNotMatch(await lab.receiver.ip('link', 'show', 'in0'), /xdp/);
    assert.doesNotMatch(await lab.receiver.run('tc', 'filter', 'show', 'dev', 'in0', 'ingress'), /bpf/);
  }
  t.diagnostic(`${found} attachments were found after ${kills} kills`);
  assert.ok(found > 0);
});

/** Links of the host that run one of these functions, with which. */
function linksOf(ids: ReadonlySet<number>): ReadonlyMap<number, number> {
  const links = new Map<number, number>();
  for (let id = nextLinkId(0); id !== undefined; id = nextLinkId(id)) {
    using link = linkById(id);
    if (link === undefined) continue;
    const { programId } = linkInfo(link.fd);
    if (ids.has(programId)) links.set(id, programId);
  }
  return links;
}
