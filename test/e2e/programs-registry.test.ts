// Programs that an agent finds by polling the controller's own registry, with its certificate, on a real kernel.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { netnsMissing } from '../fixtures/netns.ts';
import { bpfMissing } from '../fixtures/private-bpffs.ts';
import { ProgramHost, type ProgramView } from '../fixtures/program-host.ts';

const NAME = 'counter';
const POLLING = ['--programs-registry-url', 'controller', '--programs-poll-interval', '1s'];

describe('programs that are polled, end to end', { skip: netnsMissing() ?? bpfMissing() ?? false }, () => {
  let host: ProgramHost;
  before(async () => {
    host = await ProgramHost.start('edge', POLLING);
  });
  after(async () => await host[Symbol.asyncDispose]());

  const assign = async (file: string) => {
    const how = ['--artifact', file, '--attach', 'xdp:eth0', '--delivery', 'poll', '--selector', 'id:edge'];
    const { code, stderr } = await host.program('assign', NAME, ...how);
    assert.equal(code, 0, stderr);
  };
  const runsVersion = (version: string) => (view: ProgramView) => view.status?.current?.version === version;

  test('what is assigned for polling is found, fetched, verified and attached', async () => {
    await assign(await host.artifact('xdp-counter'));
    const view = await host.until('version 1 runs', NAME, runsVersion('1.0.0'));
    assert.deepEqual(
      view.status!.links.map(({ attach }) => attach),
      ['xdp:eth0'],
    );
  });

  test('a next version is taken over at the next poll', async () => {
    await assign(await host.artifact('xdp-counter-v2', { version: '2.0.0' }));
    const view = await host.until('version 2 runs', NAME, runsVersion('2.0.0'));
    assert.equal(view.status!.previous?.version, '1.0.0');
  });

  test('what it said stands while the registry is gone, also for a next process of the agent', async () => {
    const before = (await host.view(NAME))!.status!.links;
    await host.fleet.controller.stop('SIGKILL');
    await host.agent.command.until('polls fail', () =>
      host.agent.command.stderr.includes('the registry gives no answer') ? true : undefined,
    );
    await host.agent.kill9();
    host.agent.start();
    await host.fleet.startController();
    await host.agent.online();
    assert.deepEqual((await host.view(NAME))!.status!.links, before);
  });

  test('what is no longer assigned is unloaded', async () => {
    const { code, stderr } = await host.program('unassign', NAME);
    assert.equal(code, 0, stderr);
    await host.fleet.until(
      'it is gone',
      async () => ((await host.view(NAME))?.status?.current == null ? true : undefined),
      () => host.agent.command.stderr,
    );
  });
});
