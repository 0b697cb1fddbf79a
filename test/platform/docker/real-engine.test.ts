// What only real engines can show: the sandbox as the program inside sees it, a daemon that hangs, logs that were cut,
// counters of short programs, and that nothing stays open.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, suite, test } from 'node:test';
import type { ContainerSpec } from '../../../src/capabilities/jobs/ports.ts';
import { LonglineError, type Reason } from '../../../src/core/errors.ts';
import { DockerEngine } from '../../../src/platform/docker/docker-engine.ts';
import { parseEngineAddress } from '../../../src/platform/docker/engine-address.ts';
import { collect, eventually, hardenedSpec } from '../../contract/engine-contract.ts';
import { dockerMissing, podmanMissing, startDocker, startPodman, type TestEngine } from '../../fixtures/engines.ts';
import { BARE_IMAGE, importImage, loadTestImages, rootFilesystem, TEST_IMAGE } from '../../fixtures/test-image.ts';

function failsWith(work: Promise<unknown>, reason: Reason, message: RegExp): Promise<void> {
  return assert.rejects(work, (error) => {
    assert.ok(error instanceof LonglineError);
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, message);
    return true;
  });
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

const SHOW_SANDBOX = [
  'grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status',
  'touch /x 2>/dev/null && echo root-is-writable',
  'printf "#!/bin/sh\\necho ran" > /tmp/p && chmod +x /tmp/p && /tmp/p 2>/dev/null',
  'ls -d /tmp/p; ls /sys/class/net; id -u; ls /dev/shm 2>/dev/null && echo has-shm',
  'head -c 40000000 /dev/zero > /tmp/big 2>/dev/null && echo tmp-is-boundless',
  'echo end',
].join('; ');

function realEngineSuite(name: string, start: () => Promise<TestEngine>, missing: string | undefined): void {
  suite(`real engine: ${name}`, { skip: missing ?? false }, () => {
    const owned = new AsyncDisposableStack();
    const made: string[] = [];
    let daemon: TestEngine;
    let engine: DockerEngine;
    before(async () => {
      daemon = owned.use(await start());
      await loadTestImages(daemon);
      engine = owned.use(new DockerEngine(parseEngineAddress(daemon.host), { callLimitMs: 15_000 }));
    });
    afterEach(async () => {
      for (const id of made.splice(0)) await engine.remove(id);
    });
    after(() => owned.disposeAsync());

    const run = async (argv: readonly string[], changes: Partial<ContainerSpec> = {}) => {
      const id = await engine.createContainer(hardenedSpec(TEST_IMAGE, argv, changes));
      made.push(id);
      const attachment = await engine.attach(id, false);
      const { exit } = await engine.armExit(id);
      await engine.start(id);
      const output = await collect(attachment.output);
      return { id, ...output, ...(await exit) };
    };
    const sh = (script: string, changes: Partial<ContainerSpec> = {}) => run(['sh', '-c', script], changes);

    test('closes everything that the spec does not open', async () => {
      const { stdout } = await sh(SHOW_SANDBOX);
      const lines = stdout.toString().replaceAll('\t', ' ').trim().split('\n');
      assert.deepEqual(lines, [
        'CapEff: 0000000000000000',
        'CapBnd: 0000000000000000',
        'NoNewPrivs: 1',
        'Seccomp: 2',
        '/tmp/p',
        'lo',
        '65534',
        'end',
      ]);
    });

    test('knows the volumes of an image, and puts a tmpfs in their place', async () => {
      const name = 'longline-test/volume:1';
      await importImage(daemon.socketPath, name, await rootFilesystem('shell'), ['VOLUME /var']);
      const image = await engine.findImage(name);
      assert.deepEqual(image?.volumes, ['/var']);
      assert.equal((await engine.findImage(TEST_IMAGE))?.volumes, undefined);
      const script = 'grep " /var " /proc/mounts; head -c 40000000 /dev/zero > /var/big || echo bounded';
      const closed = { image: image.id, tmpFolders: ['/var'] };
      const { stdout } = await sh(script, closed);
      assert.match(stdout.toString(), /^tmpfs \/var tmpfs \S*noexec\S* 0 0\nbounded\n$/);
    });

    test('opens what the spec opens', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'll-mount-'));
      try {
        await writeFile(join(folder, 'given'), 'from the host');
        const { stdout, stderr } = await sh(
          'id -u; cat /in/given; echo no > /in/x; touch /var/x && echo writable; grep CapBnd /proc/self/status',
          {
            user: '0:0',
            readOnlyRoot: false,
            noNewPrivileges: false,
            addCapabilities: ['NET_ADMIN'],
            mounts: [{ source: folder, target: '/in', writable: false }],
          },
        );
        assert.match(stdout.toString(), /^0\nfrom the hostwritable\nCapBnd:\t0{12}1000\n$/);
        assert.match(stderr.toString(), /read-only/i);
        const written = await sh('echo yes > /out/x; cat /out/x', {
          user: '0:0',
          mounts: [{ source: folder, target: '/out', writable: true }],
        });
        assert.equal(written.stdout.toString(), 'yes\n');
      } finally {
        await rm(folder, { recursive: true });
      }
    });

    test('limits memory, swap, processes and processor', async () => {
      const limits = { cpus: 0.25, memoryBytes: 33_554_432, pids: 7 };
      const files =
        'memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us';
      const unified = 'memory.max memory.swap.max pids.max cpu.max';
      const { stdout } = await sh(`cd /sys/fs/cgroup; cat ${files} 2>/dev/null || cat ${unified}`, limits);
      const values = stdout.toString().trim().split('\n');
      assert.ok(
        ['33554432,33554432,7,25000', '33554432,0,7,25000 100000'].includes(values.join(',')),
        values.join(','),
      );
    });

    test('runs a program of an image without a shell', async () => {
      const { stdout } = await run(['echo', 'bare'], { image: BARE_IMAGE });
      assert.equal(stdout.toString(), 'bare\n');
      await assert.rejects(sh('true', { image: BARE_IMAGE }), { reason: 'invalid' });
    });

    test('refuses a malformed spec as invalid', async () => {
      const argv = ['true'];
      await assert.rejects(run(argv, { name: 'white space' }), { reason: 'invalid' });
      const reason = daemon.kind === 'podman' ? 'unsupported' : 'invalid';
      await assert.rejects(run(argv, { runtime: 'no-such-runtime' }), { reason });
      await assert.rejects(run(argv, { addCapabilities: ['NO_SUCH'] }), { reason: 'invalid' });
    });

    test('knows processor time and peak memory of most programs, however short', async () => {
      let known = 0;
      for (let round = 0; round < 10; round++) {
        const { id } = await sh('i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done');
        const usage = await engine.usage(id);
        if (usage !== undefined && usage.cpuNanos > 0 && usage.memoryPeakBytes > 0) known += 1;
      }
      assert.ok(known >= 5, `known of ${known} of 10`);
    });

    test('finds out that the beginning of a log is gone', async () => {
      const { id, stdout } = await sh('yes 0123456789012345678901234567890123456789 | head -n 500000', {
        keepLogBytes: 1024,
      });
      assert.equal(stdout.length, 500_000 * 41);
      await failsWith(collect(engine.readLogs(id, false)), 'wrong_state', /dropped the beginning/);
    });

    test('leaves no connection open', async () => {
      await run(['echo', 'warm']);
      const before = await settledFiles();
      for (let round = 0; round < 5; round++) {
        const { id } = await run(['echo', 'again']);
        await collect(engine.readLogs(id, false));
        const unread = await engine.attach(id, false);
        unread.destroy();
        await engine.armExit(id, AbortSignal.abort()).catch(() => undefined);
      }
      await eventually(async () => (openFiles() <= before ? true : undefined), `no more than ${before} files open`);
    });

    test('gives up on a daemon that hangs', async () => {
      const { id } = await run(['true']);
      await using hasty = new DockerEngine(parseEngineAddress(daemon.host), { callLimitMs: 2000, pullStallMs: 2000 });
      await eventually(() => hasty.inspect(id).catch(() => undefined), 'an answer within the short limit');
      await daemon.freeze();
      try {
        const late = /did not answer within 2000 ms|made no progress/;
        await Promise.all([
          failsWith(hasty.facts(), 'unavailable', late),
          failsWith(hasty.inspect(id), 'unavailable', late),
          failsWith(hasty.attach(id, false), 'unavailable', late),
          failsWith(hasty.armExit(id), 'unavailable', late),
          failsWith(hasty.start(id), 'unavailable', late),
          failsWith(hasty.kill(id, 'SIGKILL'), 'unavailable', late),
          failsWith(hasty.remove(id), 'unavailable', late),
          failsWith(hasty.list('a', 'b'), 'unavailable', late),
          failsWith(collect(hasty.readLogs(id, true)), 'unavailable', late),
          failsWith(hasty.usage(id), 'unavailable', late),
          failsWith(hasty.pullImage(TEST_IMAGE, undefined).next(), 'unavailable', late),
          failsWith(hasty.events(new AbortController().signal).next(), 'unavailable', late),
        ]);
      } finally {
        daemon.thaw();
      }
      assert.equal((await engine.facts()).kind, daemon.kind);
    });
  });
}

/** Open files once those that are being closed are closed. */
async function settledFiles(): Promise<number> {
  let last = openFiles();
  let same = 0;
  return await eventually(async () => {
    const now = openFiles();
    same = now === last ? same + 1 : 0;
    last = now;
    return same >= 10 ? now : undefined;
  }, 'a steady number of open files');
}

realEngineSuite('Docker', startDocker, dockerMissing());
realEngineSuite('Podman', startPodman, podmanMissing());
