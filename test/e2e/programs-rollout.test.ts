import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { runCommand } from '../../deploy/dev/command.ts';
import type { ObjectName } from '../fixtures/bpf/objects.ts';
import { netnsMissing } from '../fixtures/netns.ts';
import { bpfMissing } from '../fixtures/private-bpffs.ts';
import { ProgramHost, type ProgramView } from '../fixtures/program-host.ts';
import { Flow } from '../fixtures/traffic.ts';

const IDS = ['one', 'two', 'three'] as const;
const NAME = 'counter';
const POLLING: readonly string[] = ['--programs-registry-url', 'controller', '--programs-poll-interval', '1s'];

interface RolloutView {
  readonly id: string;
  readonly state: string;
  readonly failed: number;
  readonly current: number;
  readonly members: readonly { readonly agent_id: string; readonly wave: number; readonly state: string }[];
}

describe('rollouts of programs, end to end', { skip: netnsMissing() ?? bpfMissing() ?? false }, () => {
  let host: ProgramHost;
  before(async () => {
    host = await ProgramHost.start(IDS[0], POLLING);
    for (const id of IDS.slice(1)) await host.enrol(id, POLLING);
  });
  after(async () => await host[Symbol.asyncDispose]());

  /** An assignment to all agents; TCX has room for all of them on one interface. */
  async function assign(object: ObjectName, version: string, ...more: string[]) {
    const file = await host.artifact(object, { version });
    const place = ['--attach', 'count_ingress@tc:eth0:ingress'];
    const where = object === 'tc-counter' ? place : ['--attach', 'xdp:eth0'];
    return await host.program('assign', NAME, '--selector', '*', '--artifact', file, ...where, ...more);
  }

  async function programs(): Promise<readonly (ProgramView & { readonly agent_id: string })[]> {
    return (await host.program('ls', '--name', NAME, '--json')).json();
  }

  async function untilAll(what: string, wanted: (view: ProgramView) => boolean, agents: readonly string[] = IDS) {
    return await host.fleet.until(what, async () => {
      const views = await programs();
      return views.length === agents.length && views.every(wanted) ? views : undefined;
    });
  }

  const versions = (views: readonly ProgramView[]) => views.map(({ status }) => status?.current?.version);

  test('waves: one agent, then all; each is watched before the next', async () => {
    const { code, stderr, stdout } = await assign(
      'tc-counter',
      '1.0.0',
      '--waves',
      '34,100',
      '--pause',
      '3s',
      '--wait',
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout.toString(), /counter: watching, wave 1 of 2, 1 of 3 agents/);
    assert.match(stdout.toString(), /counter: done, wave 2 of 2, 3 of 3 agents/);
    assert.deepEqual(versions(await programs()), ['1.0.0', '1.0.0', '1.0.0']);
  });

  test('a program that an assignment rules is not changed on one agent', async () => {
    const file = await host.artifact('tc-counter', { version: '1.0.0' });
    const one = ['--agent', 'one', '--artifact', file, '--attach', 'count_ingress@tc:eth0:ingress'];
    const { code, stderr } = await host.program('load', ...one, '--name', NAME);
    assert.notEqual(code, 0);
    assert.match(stderr, /assignment/);
  });

  test('a version that errs halts at its first agent, and all have what they had before', async () => {
    await using _flow = await Flow.start(host.home, host.edge, host.edge.address);
    // Watched for longer than it takes: it ends with the rollback.
    const { code, stdout } = await assign('xdp-counter-bad', '2.0.0', '--waves', '34,100', '--pause', '60s', '--wait');
    assert.equal(code, 1);
    assert.match(stdout.toString(), /counter: rolled_back, wave 1 of 2, .*1 failed/);
    await untilAll('back at 1.0.0', ({ state, status }) => status?.current?.version === '1.0.0' && state === 'active');
    const [latest] = (await host.program('rollout', 'ls', '--assignment', NAME, '--json')).json<RolloutView[]>();
    const shown = (await host.program('rollout', 'show', latest!.id, '--json')).json<RolloutView>();
    assert.equal(shown.state, 'rolled_back');
    const rollbacks = (await host.program('rollbacks', '--name', NAME, '--json')).json<{ trigger: string }[]>();
    assert.deepEqual(
      rollbacks.map(({ trigger }) => trigger),
      ['errors'],
    );
  });

  test('goes on where it was after kill -9 of the controller; aborted by hand it goes back', async () => {
    const begun = await assign('tc-counter', '3.0.0', '--waves', '34,100', '--manual', '--pause', '1s', '--json');
    const { id } = begun.json<{ begun: { id: string } }>().begun;
    const show = async () => (await host.program('rollout', 'show', id, '--json')).json<RolloutView>();
    await host.fleet.controller.stop('SIGKILL');
    await host.fleet.startController();
    await host.fleet.until('the first wave is through', async () => {
      const { current, state } = await show();
      return state === 'paused' && current === 1 ? true : undefined;
    });
    assert.deepEqual(versions(await programs()).sort(), ['1.0.0', '1.0.0', '3.0.0']);
    const { code, stderr } = await host.program('rollout', 'abort', id, '--reason', 'a test');
    assert.equal(code, 0, stderr);
    await untilAll('back at 1.0.0', ({ state, status }) => status?.current?.version === '1.0.0' && state === 'active');
  });

  test('by polling: agents find it in the registry of the controller, and it is followed like the others', async () => {
    const { code, stderr, stdout } = await assign(
      'tc-counter',
      '4.0.0',
      '--delivery',
      'poll',
      '--pause',
      '1s',
      '--wait',
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout.toString(), /counter: done, wave 1 of 1, 3 of 3 agents/);
    const views = await untilAll('at 4.0.0', ({ status }) => status?.current?.version === '4.0.0');
    assert.equal(views.length, 3);
  });

  test('unassigned: no agent has it any more', async () => {
    const { code, stderr } = await host.program('unassign', NAME);
    assert.equal(code, 0, stderr);
    await host.fleet.until('all gone', async () => ((await programs()).length === 0 ? true : undefined));
    const find = ['find', host.bpffs.mountPoint, '-path', '*/longline/*', '-type', 'f'] as const;
    assert.equal((await runCommand(find, { timeoutMs: 60_000 })).stdout, '');
  });
});
