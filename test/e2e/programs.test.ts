import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCommand } from '../../deploy/dev/command.ts';
import { netnsMissing } from '../fixtures/netns.ts';
import { bpfMissing } from '../fixtures/private-bpffs.ts';
import { ProgramHost } from '../fixtures/program-host.ts';
import { newAuthor, testArtifact } from '../fixtures/test-artifact.ts';
import { Flow } from '../fixtures/traffic.ts';

const NAME = 'counter';
const PACKETS = 100;

describe('programs, end to end', { skip: netnsMissing() ?? bpfMissing() ?? false }, () => {
  let host: ProgramHost;
  before(async () => {
    host = await ProgramHost.start('edge');
  });
  after(async () => await host[Symbol.asyncDispose]());

  const load = async (file: string, ...more: string[]) =>
    await host.program('load', '--agent', 'edge', '--artifact', file, '--attach', 'xdp:eth0', ...more);

  /** Packets pass while something is done; all arrive, and each is counted. */
  async function counted(action: () => Promise<void>): Promise<void> {
    const before = (await host.view(NAME))?.figures?.packets ?? 0;
    await using flow = await Flow.start(host.home, host.edge, host.edge.address);
    await flow.passed(PACKETS);
    await action();
    await flow.passed(PACKETS);
    const { lost, sent } = await flow.stop();
    assert.equal(lost, 0);
    const enough = ({ figures }: { figures: { packets: number } | null }) => (figures?.packets ?? 0) >= before + sent;
    await host.until(`${sent} packets counted`, NAME, enough);
  }

  test('a signed artifact is loaded and counts; the same again changes nothing', async () => {
    const file = await host.artifact('xdp-counter');
    const first = await load(file, '--param', 'limit=0', '--ttl', '1h', '--json');
    assert.equal(first.code, 0, first.stderr);
    const view = first.json<{ changed: boolean; status: { links: { attach: string }[] } }>();
    assert.equal(view.changed, true);
    assert.deepEqual(
      view.status.links.map(({ attach }) => attach),
      ['xdp:eth0'],
    );
    await counted(async () => undefined);
    const again = await load(file, '--param', 'limit=0', '--ttl', '1h', '--json');
    assert.equal(again.json<{ changed: boolean }>().changed, false);
  });

  test('the kernel has it, by the eyes of bpftool', async () => {
    const { stdout } = await runCommand([...host.edge.within, 'bpftool', '--json', 'net', 'show'], {
      timeoutMs: 60_000,
    });
    const [{ xdp }] = JSON.parse(stdout) as [{ xdp: { devname: string }[] }];
    assert.deepEqual(
      xdp.map(({ devname }) => devname),
      ['eth0'],
    );
  });

  test('an upgrade takes over without a packet that nobody counts, and keeps the counters', async () => {
    const file = await host.artifact('xdp-counter-v2', { version: '2.0.0' });
    await counted(async () => {
      const { code, stderr } = await load(file);
      assert.equal(code, 0, stderr);
    });
    const view = await host.until('revision 2 active', NAME, ({ state }) => state === 'active');
    assert.deepEqual([view.status!.current!.version, view.status!.previous!.version], ['2.0.0', '1.0.0']);
  });

  test('kill -9 of the agent: packets go on being counted, and the next process takes over what is there', async () => {
    const before = (await host.view(NAME))!.status!.links;
    await counted(async () => {
      await host.agent.kill9();
      host.agent.start();
      await host.agent.online();
    });
    assert.deepEqual((await host.view(NAME))!.status!.links, before);
  });

  test('kill -9 of the controller changes nothing on the host', async () => {
    const before = (await host.view(NAME))!.status!.links;
    await counted(async () => {
      await host.fleet.controller.stop('SIGKILL');
      await host.fleet.startController();
      await host.agent.online();
    });
    assert.deepEqual((await host.view(NAME))!.status!.links, before);
  });

  test('a version that errs is rolled back by itself, quarantined, and told of', async () => {
    const file = await host.artifact('xdp-counter-bad', { version: '3.0.0' });
    await using flow = await Flow.start(host.home, host.edge, host.edge.address);
    // Who waited for it to run could find it rolled back already.
    const { code, stderr } = await load(file, '--detach');
    assert.equal(code, 0, stderr);
    const view = await host.until('rolled back', NAME, ({ status }) => status?.last_rollback?.trigger === 'errors');
    assert.deepEqual([view.status!.current!.version, view.status!.quarantined], ['2.0.0', true]);
    assert.equal((await flow.stop()).lost, 0);
    const list = await host.program('rollbacks', '--agent', 'edge', '--json');
    const [rollback] = list.json<{ from: { version: string }; to: { version: string }; trigger: string }[]>();
    assert.deepEqual([rollback!.from.version, rollback!.to.version, rollback!.trigger], ['3.0.0', '2.0.0', 'errors']);
  });

  test('what the verifier refuses leaves what runs, and its log is shown', async () => {
    const file = await host.artifact('xdp-refused', { version: '4.0.0' });
    const { code, stderr } = await load(file);
    assert.equal(code, 1);
    assert.match(stderr, /problem: verifier: /);
    assert.match(stderr, /processed \d+ insns/);
    const view = (await host.view(NAME))!;
    assert.equal(view.status!.current!.version, '2.0.0');
    await counted(async () => undefined);
  });

  test('by hand back to the revision before, and released again', async () => {
    const good = await load(await host.artifact('xdp-counter', { version: '5.0.0' }));
    assert.equal(good.code, 0, good.stderr);
    const back = await host.program('rollback', NAME, '--agent', 'edge', '--reason', 'a test');
    assert.equal(back.code, 0, back.stderr);
    assert.match(back.stdout.toString(), /edge counter: from 5\.0\.0 \(revision \d+\) back to 2\.0\.0/);
    const released = await host.program('release', '--agent', 'edge', '--json');
    assert.ok(released.json<{ released: string[] }>().released.length >= 1);
  });

  test('on the host itself, asked of its agent without a controller', async () => {
    const good = await load(await host.artifact('xdp-counter', { version: '6.0.0' }));
    assert.equal(good.code, 0, good.stderr);
    const local = async (...args: string[]) =>
      await host.program('local', ...args, '--data-dir', host.agent.dataFolder, '--json');
    const { programs } = (await local('ls')).json<{ programs: { name: string; current: { version: string } }[] }>();
    assert.deepEqual(
      programs.map(({ current, name }) => [name, current.version]),
      [[NAME, '6.0.0']],
    );
    const back = await local('rollback', NAME, '--reason', 'no way to the controller');
    assert.equal(back.json<{ to: { version: string } }>().to.version, '2.0.0', back.stderr);
    assert.equal((await local('rollback', 'none')).code, 3);
    assert.equal((await local('release')).json<{ released: string[] }>().released.length, 1);
  });

  test('one that an unknown key signed is refused with the key, and nothing is loaded', async () => {
    const stranger = newAuthor();
    const file = join(host.folder, 'stranger.tar.zst');
    await writeFile(file, await testArtifact('xdp-counter', stranger));
    const { code, stderr } = await load(file, '--name', 'stranger');
    assert.equal(code, 1);
    assert.match(stderr, /signature/);
    assert.ok(stderr.includes(stranger.key.keyId), stderr);
  });

  test('unloaded: nothing is attached or pinned any more', async () => {
    for (const name of [NAME, 'stranger']) {
      const { code, stderr } = await host.program('unload', name, '--agent', 'edge', '--wait');
      assert.equal(code, 0, stderr);
    }
    const { stdout } = await runCommand([...host.edge.within, 'bpftool', '--json', 'net', 'show'], {
      timeoutMs: 60_000,
    });
    const [{ xdp }] = JSON.parse(stdout) as [{ xdp: unknown[] }];
    assert.deepEqual(xdp, []);
    const found = await runCommand(['find', host.bpffs.mountPoint, '-path', '*/longline/*', '-type', 'f'], {
      timeoutMs: 60_000,
    });
    assert.equal(found.stdout, '');
  });
});
