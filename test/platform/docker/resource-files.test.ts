import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { checkpointMissing } from '../../../src/platform/docker/checkpoint-support.ts';
import { readResources, resourceFiles } from '../../../src/platform/docker/resource-files.ts';
import { listens } from '../../../src/platform/docker/session-probes.ts';

const NET_DEV = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    5000       5    0    0    0     0          0         0     5000       5    0    0    0     0       0          0
  eth0:    1234      10    0    0    0     0          0         0      567       7    0    0    0     0       0          0
`;

/** Writes files below a folder of its own. */
async function tree(files: Readonly<Record<string, string>>) {
  const root = await mkdtemp(join(tmpdir(), 'll-resources-'));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), content);
  }
  const roots = { proc: join(root, 'proc'), cgroup: join(root, 'cgroup') };
  return { root, roots, [Symbol.asyncDispose]: () => rm(root, { recursive: true }) };
}

const EXPECTED = {
  ...{ atMs: 1, cpuNanos: 2_000_000_000, memoryBytes: 700, networkRxBytes: 1234, networkTxBytes: 567 },
  ...{ blockReadBytes: 4096, blockWriteBytes: 512, pids: 3 },
};

const V2 = {
  'cpu.stat': 'usage_usec 2000000\nuser_usec 1\n',
  'memory.current': '1000\n',
  'memory.stat': 'anon 5\ninactive_file 300\n',
  'io.stat': '8:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n',
  'pids.current': '3\n',
};

function below(folder: string, files: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).map(([name, content]) => [join(folder, name), content]));
}

suite('resources from the kernel', () => {
  test('are read from a unified hierarchy', async () => {
    await using made = await tree({
      'proc/7/cgroup': '0::/docker/abc\n',
      'proc/7/net/dev': NET_DEV,
      ...below('cgroup/docker/abc', V2),
    });
    assert.deepEqual(readResources(resourceFiles(7, made.roots)!, 1), EXPECTED);
  });

  test('are read from hierarchies of the first version', async () => {
    await using made = await tree({
      'proc/7/cgroup': '9:pids:/d/x\n5:memory:/d/x\n4:blkio:/d/x\n3:cpu,cpuacct:/d/x\n1:name=systemd:/d/x\n',
      'proc/7/net/dev': NET_DEV,
      'cgroup/cpu,cpuacct/d/x/cpuacct.usage': '2000000000\n',
      'cgroup/memory/d/x/memory.usage_in_bytes': '1000\n',
      'cgroup/memory/d/x/memory.stat': 'inactive_file 1\ntotal_inactive_file 300\n',
      'cgroup/blkio/d/x/blkio.throttle.io_service_bytes': '8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\nTotal 4608\n',
      'cgroup/pids/d/x/pids.current': '3\n',
    });
    assert.deepEqual(readResources(resourceFiles(7, made.roots)!, 1), EXPECTED);
  });

  test('are read from both where a host has both', async () => {
    await using made = await tree({
      'proc/7/cgroup': '3:cpu,cpuacct:/d/x\n5:memory:/d/x\n0::/d/x\n',
      'proc/7/net/dev': NET_DEV,
      'cgroup/cpu,cpuacct/d/x/cpuacct.usage': '2000000000\n',
      'cgroup/memory/d/x/memory.usage_in_bytes': '1000\n',
      'cgroup/memory/d/x/memory.stat': 'total_inactive_file 300\n',
      ...below('cgroup/d/x', { 'io.stat': V2['io.stat'], 'pids.current': V2['pids.current'] }),
    });
    assert.deepEqual(readResources(resourceFiles(7, made.roots)!, 1), EXPECTED);
  });

  test('are unknown once the container has ended', async () => {
    await using made = await tree({ 'proc/7/cgroup': '0::/docker/abc\n', 'proc/7/net/dev': NET_DEV });
    assert.equal(readResources(resourceFiles(7, made.roots)!, 1), undefined);
    assert.equal(resourceFiles(8, made.roots), undefined);
  });
});

test('a port that is listened on is found in the table of its namespace', async () => {
  await using made = await tree({
    'proc/7/net/tcp':
      '  sl  local_address rem_address   st\n   0: 0100007F:170D 00000000:0000 0A 0 0\n   1: 0100007F:0016 0200000A:9999 01 0 0\n',
    'proc/7/net/tcp6': '  sl  local_address rem_address st\n   0: 00000000000000000000000000000000:1F90 0:0 0A\n',
  });
  const { proc } = made.roots;
  assert.deepEqual(
    [5901, 8080, 22].map((port) => listens(7, port, proc)),
    [true, true, false],
  );
  assert.equal(listens(undefined, 5901, proc), false);
  assert.equal(listens(99, 5901, proc), false);
});

test('checkpoints are unavailable with the reason', async () => {
  const ground = { kind: 'docker', experimental: true, local: true } as const;
  const works = async () => undefined;
  assert.equal(await checkpointMissing(ground, works), undefined);
  assert.match((await checkpointMissing({ ...ground, kind: 'podman' }, works))!, /Podman makes no checkpoints/);
  assert.match((await checkpointMissing({ ...ground, experimental: false }, works))!, /"experimental": true/);
  const absent = async () => {
    throw Object.assign(new Error('spawn'), { code: 'ENOENT' });
  };
  assert.equal(await checkpointMissing(ground, absent), 'CRIU is not installed');
  const broken = async () => {
    throw Object.assign(new Error('x'), { stderr: 'Warn\nError (criu/vdso.c): no vdso\n' });
  };
  assert.match(
    (await checkpointMissing(ground, broken))!,
    /CRIU does not work on this host: Error \(criu\/vdso.c\): no vdso/,
  );
});
