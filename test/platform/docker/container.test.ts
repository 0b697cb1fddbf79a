// What is asked of an engine for a spec, and what is made of its answers.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { createBody } from '../../../src/platform/docker/container-config.ts';
import { containerFacts, type RawContainer } from '../../../src/platform/docker/container-facts.ts';
import { connectionError, refusalError, saysNotRunning } from '../../../src/platform/docker/engine-errors.ts';
import { engineEvent } from '../../../src/platform/docker/engine-events.ts';
import { readUsage, UsageSampler, usageFilesOf } from '../../../src/platform/docker/usage-sampler.ts';
import { hardenedSpec } from '../../contract/engine-contract.ts';

function raw(state: Partial<RawContainer['State']>): RawContainer {
  const base = { Status: 'created', ExitCode: 0, OOMKilled: false, StartedAt: '0001-01-01T00:00:00Z', Pid: 0 };
  return {
    Id: 'id',
    Name: '/name',
    Image: 'sha256:1',
    Config: { Labels: null },
    State: { ...base, FinishedAt: '0001-01-01T00:00:00Z', ...state },
  };
}

suite('container config', () => {
  test('of the hardened spec closes everything', () => {
    const spec = hardenedSpec('tool:1', ['run', '-x'], { name: 'n', env: { A: '1' }, keepLogBytes: 1000 });
    const body = createBody(spec, 'docker') as { HostConfig: Record<string, unknown> } & Record<string, unknown>;
    const { HostConfig: host, ...rest } = body;
    assert.deepEqual(rest, {
      Image: 'tool:1',
      Entrypoint: ['run', '-x'],
      Cmd: [],
      Env: ['A=1'],
      User: '65534:65534',
      Labels: { 'longline-contract': 'run' },
      Tty: false,
      AttachStdin: false,
      AttachStdout: true,
      AttachStderr: true,
      OpenStdin: false,
      StdinOnce: false,
      Healthcheck: { Test: ['NONE'] },
    });
    assert.deepEqual(host, {
      NetworkMode: 'none',
      NanoCpus: 1_000_000_000,
      Memory: 67_108_864,
      MemorySwap: 67_108_864,
      PidsLimit: 64,
      IpcMode: 'none',
      CapDrop: ['ALL'],
      CapAdd: [],
      SecurityOpt: ['no-new-privileges'],
      ReadonlyRootfs: true,
      Tmpfs: { '/tmp': 'rw,noexec,nosuid,nodev,mode=1777,size=16777216' },
      Mounts: [],
      RestartPolicy: { Name: 'no' },
      AutoRemove: false,
      LogConfig: { Type: 'local', Config: { 'max-size': '1049576', 'max-file': '9', compress: 'false' } },
    });
  });

  test('gives further folders a tmpfs like /tmp', () => {
    const spec = hardenedSpec('tool:1', ['x'], { tmpBytes: 4096, tmpFolders: ['/data'] });
    const { Tmpfs } = (createBody(spec, 'docker') as { HostConfig: { Tmpfs: object } }).HostConfig;
    const options = 'rw,noexec,nosuid,nodev,mode=1777,size=4096';
    assert.deepEqual(Tmpfs, { '/tmp': options, '/data': options });
  });

  test('of podman logs in its own way', () => {
    const body = createBody(hardenedSpec('tool:1', ['x'], { keepLogBytes: 1000 }), 'podman');
    const { LogConfig } = (body as { HostConfig: { LogConfig: object } }).HostConfig;
    assert.deepEqual(LogConfig, { Type: 'k8s-file', Config: { 'max-size': '8396608' } });
  });

  test('bounds what the log may take on the disk, however much it must keep and whatever its lines are', () => {
    for (const keepLogBytes of [0, 1000, 129 * 2 ** 20, 2 * 2 ** 30, 2 ** 40]) {
      const most = 2 * keepLogBytes + 256 * 2 ** 20;
      for (const kind of ['docker', 'podman'] as const) {
        const body = createBody(hardenedSpec('tool:1', ['x'], { keepLogBytes }), kind);
        const { LogConfig } = (body as { HostConfig: { LogConfig: { Config: Record<string, string> } } }).HostConfig;
        const bytes = Number(LogConfig.Config['max-size']) * Number(LogConfig.Config['max-file'] ?? 1);
        assert.ok(bytes <= most, `${kind} takes ${bytes} to keep ${keepLogBytes}`);
        assert.ok(bytes > keepLogBytes, `${kind} has ${bytes} to keep ${keepLogBytes}`);
      }
    }
  });
});

suite('container facts', () => {
  test('know neither code nor times before they are', () => {
    const facts = containerFacts(raw({}));
    assert.deepEqual(
      [facts.exitCode, facts.startedAtMs, facts.finishedAtMs, facts.labels],
      [undefined, undefined, undefined, {}],
    );
  });

  test("take podman's states, and an end before the start as the start", () => {
    assert.equal(containerFacts(raw({ Status: 'initialized' })).state, 'created');
    assert.equal(containerFacts(raw({ Status: 'stopping' })).state, 'running');
    const at = { StartedAt: '2026-01-01T00:00:01.5Z', FinishedAt: '2026-01-01T00:00:01.4Z' };
    const ended = containerFacts(raw({ Status: 'stopped', ExitCode: 3, ...at }));
    assert.deepEqual([ended.state, ended.exitCode], ['exited', 3]);
    assert.equal(ended.finishedAtMs, ended.startedAtMs);
  });
});

suite('engine errors', () => {
  test('map what engines say', () => {
    for (const [status, message, reason] of [
      [404, 'No such container: x', 'not_found'],
      [404, 'No such image: x', 'not_found'],
      [409, 'Conflict. The container name "/x" is already in use by container "y".', 'already_exists'],
      [500, 'creating container storage: the container name "x" is already in use by y.', 'already_exists'],
      [500, 'mkdir /var/lib/docker/overlay2/x: no space left on device', 'limit'],
      [400, 'OCI runtime create failed: exec: "x": executable file not found in $PATH', 'invalid'],
      [400, 'bad parameter', 'invalid'],
      [503, 'busy', 'unavailable'],
      [500, 'something else', 'internal'],
    ] as const) {
      assert.equal(refusalError('do it', { status, message }).reason, reason, message);
    }
    const long = refusalError('do it', { status: 500, message: 'x'.repeat(5000) }).message;
    assert.ok(long.length < 1200);
  });

  test('know a container that has ended', () => {
    assert.ok(saysNotRunning({ status: 409, message: 'Cannot kill container: x: Container x is not running' }));
    assert.ok(saysNotRunning({ status: 409, message: 'can only kill running containers. x is in state exited' }));
    assert.ok(!saysNotRunning({ status: 404, message: 'No such container: x' }));
  });

  test('name the socket and the mend when there is no daemon', () => {
    const refused = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    const error = connectionError('ask', 'unix:///run/x.sock', refused);
    assert.equal(error.reason, 'unavailable');
    assert.match(error.message, /unix:\/\/\/run\/x\.sock.*is it running/);
    assert.match(connectionError('ask', 'x', Object.assign(new Error(), { code: 'EACCES' })).message, /as root/);
  });
});

suite('engine events', () => {
  test('are those of containers, in both dialects', () => {
    const Actor = { ID: 'c', Attributes: { exitCode: '3' } };
    assert.deepEqual(engineEvent({ Type: 'container', Action: 'die', Actor }), {
      kind: 'exited',
      containerId: 'c',
      exitCode: 3,
    });
    assert.deepEqual(
      engineEvent({ status: 'died', id: 'c', Actor: { ID: 'c', Attributes: { containerExitCode: '0' } } }),
      { kind: 'exited', containerId: 'c', exitCode: 0 },
    );
    assert.deepEqual(engineEvent({ Type: 'container', Action: 'oom', Actor }), { kind: 'oom', containerId: 'c' });
    for (const line of [
      {},
      { Type: 'image', Action: 'die', Actor },
      { Type: 'container', Action: 'start', Actor },
      { Type: 'container', Action: 'die', Actor: { ID: 'c' } },
      { Type: 'container', Action: 'die', Actor: 'x' },
    ]) {
      assert.equal(engineEvent(line), undefined);
    }
  });
});

suite('usage from cgroup files', () => {
  test('is found and read on version 1, 2 and after the end', async () => {
    const root = await mkdtemp(join(tmpdir(), 'll-cgroup-'));
    try {
      for (const [pid, membership] of [
        [1, '4:memory:/box/c1\n2:cpu,cpuacct:/box/c1\n0::/box/c1\n'],
        [2, '0::/box/c2\n'],
        [3, '0::/\n'],
      ] as const) {
        await mkdir(join(root, 'proc', String(pid)), { recursive: true });
        await writeFile(join(root, 'proc', String(pid), 'cgroup'), membership);
      }
      for (const folder of ['memory/box/c1', 'cpu,cpuacct/box/c1', 'box/c2'])
        await mkdir(join(root, folder), { recursive: true });
      await writeFile(join(root, 'memory/box/c1/memory.max_usage_in_bytes'), '4096\n');
      await writeFile(join(root, 'cpu,cpuacct/box/c1/cpuacct.usage'), '123456\n');
      await writeFile(join(root, 'box/c2/cpu.stat'), 'usage_usec 77\nuser_usec 50\n');
      const [first, second] = [1, 2].map((pid) => usageFilesOf(pid, join(root, 'proc'), root)!);
      assert.deepEqual(readUsage(first!), { cpuNanos: 123_456, memoryPeakBytes: 4096 });
      assert.deepEqual(readUsage(second!), { cpuNanos: 77_000, memoryPeakBytes: 0 });
      for (const pid of [0, 3, 9]) assert.equal(usageFilesOf(pid, join(root, 'proc'), root), undefined);

      using sampler = new UsageSampler();
      sampler.watch('c1', first!);
      await rm(join(root, 'cpu,cpuacct/box/c1'), { recursive: true });
      assert.deepEqual(sampler.sample('c1'), { cpuNanos: 123_456, memoryPeakBytes: 4096 });
      sampler.watchAhead('c9');
      assert.ok(!sampler.knows('c9'));
      sampler.forget('c1');
      assert.equal(sampler.sample('c1'), undefined);
    } finally {
      await rm(root, { recursive: true });
    }
  });
});
