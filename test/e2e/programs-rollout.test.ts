// A program on two agents at once, over the command line: waves, going back by itself, and a controller that is killed meanwhile.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCommand } from '../../deploy/dev/command.ts';
import type { TestAgent } from '../fixtures/fleet.ts';
import { netnsMissing } from '../fixtures/netns.ts';
import { bpfMissing } from '../fixtures/private-bpffs.ts';
import { ProgramHost } from '../fixtures/program-host.ts';

const NAME = 'counter';
const AGENTS = ['edge', 'home'];

/** What `longline program rollout show --json` gives, as far as it matters here. */
interface RolloutView {
  readonly id: string;
  readonly state: string;
  readonly reason: string | null;
  readonly wave: number;
  readonly waves: number;
  readonly failed: number;
}

describe('rollouts of programs, end to end', { skip: netnsMissing() ?? bpfMissing() ?? false }, () => {
  let host: ProgramHost;
  let second: TestAgent;
  before(async () => {
    host = await ProgramHost.start('edge');
    const keys = ['--programs-key-file', join(host.folder, 'author.pub'), '--programs-bpf-fs', host.bpffs.mountPoint];
    const brisk = ['--programs-probation', '2s', '--programs-rollback-check-interval', '1s'];
    second = await host.fleet.enrolled('home', [...keys, ...brisk], host.fleet.url, host.home.within);
  });
  after(async () => await host[Symbol.asyncDispose]());

  const assign = async (file: string, ...more: string[]) => {
    const how = ['--selector', '*', '--attach', 'xdp:eth0', '--pause', '1s', '--waves', '50,100'];
    return await host.program('assign', NAME, '--artifact', file, ...how, ...more);
  };
  const latest = async (): Promise<RolloutView> => {
    const list = (await host.program('rollout', 'ls', '--json')).json<readonly RolloutView[]>();
    return (await host.program('rollout', 'show', list[0]!.id, '--json')).json<RolloutView>();
  };
  const reached = async (state: string): Promise<RolloutView> => {
    let last: RolloutView | undefined;
    return await host.fleet.until(
      state,
      async () => {
        last = await latest();
        return last.state === state ? last : undefined;
      },
      () => `${JSON.stringify(last)}\n${host.agent.command.stderr}\n${second.command.stderr}`,
    );
  };
  const versions = async (): Promise<readonly (string | undefined)[]> => {
    const programs = (await host.program('ls', '--name', NAME, '--json')).json<
      readonly { agent_id: string; status: { current: { version: string } | null } | null }[]
    >();
    return AGENTS.map((id) => programs.find((one) => one.agent_id === id)?.status?.current?.version);
  };

  test('goes over the agents in waves', async () => {
    const { code, stderr } = await assign(await host.artifact('xdp-counter'), '--wait');
    assert.equal(code, 0, stderr);
    const { state, wave, waves } = await latest();
    assert.deepEqual([state, wave, waves], ['done', 2, 2]);
    assert.deepEqual(await versions(), ['1.0.0', '1.0.0']);
  });

  test('goes on where it was after kill -9 of the controller', async () => {
    const { code, stderr } = await assign(await host.artifact('xdp-counter-v2', { version: '2.0.0' }), '--manual');
    assert.equal(code, 0, stderr);
    await host.fleet.controller.stop('SIGKILL');
    await host.fleet.startController();
    const { id, wave } = await reached('paused');
    assert.equal(wave, 1);
    assert.deepEqual([...(await versions())].sort(), ['1.0.0', '2.0.0']);
    assert.equal((await host.program('rollout', 'resume', id)).code, 0);
    await host.fleet.controller.stop('SIGKILL');
    await host.fleet.startController();
    await reached('done');
    assert.deepEqual(await versions(), ['2.0.0', '2.0.0']);
  });

  test('goes back by itself where the kernel refuses it', async () => {
    const { code } = await assign(await host.artifact('xdp-refused', { version: '3.0.0' }), '--wait');
    assert.notEqual(code, 0);
    const { failed, reason, state } = await latest();
    assert.deepEqual([state, failed], ['rolled_back', 1]);
    assert.match(reason!, /1 of 1 agents reached so far failed/);
    assert.deepEqual(await versions(), ['2.0.0', '2.0.0']);
  });

  test('is taken away from all', async () => {
    const { code, stderr } = await host.program('unassign', NAME);
    assert.equal(code, 0, stderr);
    await host.fleet.until('nobody has it', async () => {
      const left = (await host.program('assignments', '--json')).json<readonly unknown[]>();
      return left.length === 0 && (await versions()).every((one) => one === undefined) ? true : undefined;
    });
    const find = ['find', host.bpffs.mountPoint, '-path', '*/longline/*', '-type', 'f'] as const;
    assert.equal((await runCommand(find, { timeoutMs: 20_000 })).stdout, '');
  });
});
