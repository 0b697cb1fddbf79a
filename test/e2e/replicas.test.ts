// Three replicas of one agent on one host, sharing a data folder and electing by a locked file: killing the leader while a job
// prints costs nothing but seconds, and an orderly stop hands over at once. What is asserted of times are limits that the
// documentation promises, with room for a slow machine only where the process starts.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CreationWatch, untilNoContainers } from '../fixtures/engine-query.ts';
import { dockerMissing, startDocker, type TestEngine } from '../fixtures/engines.ts';
import { type Fleet, type JobView, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';

const ID = 'replicated';
const LINES = 60;
const SCRIPT = `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo "line $i"; sleep 0.1; done`;

interface StatusView {
  readonly link_state: string;
  readonly leadership: { readonly role: string; readonly epoch: number; readonly leader: string | null };
}

class Replica {
  readonly agent: TestAgent;
  readonly socket: string;
  readonly #fleet: Fleet;

  constructor(fleet: Fleet, name: string) {
    this.#fleet = fleet;
    this.socket = join(fleet.folder, `${name}.sock`);
    const ha = ['--enable-ha', '--lock-file-path', join(fleet.folder, 'agent.lock'), '--local-socket', this.socket];
    this.agent = fleet.agent(ID, ha);
  }

  async status(): Promise<StatusView | undefined> {
    const outcome = await this.#fleet.longline('status', '--socket', this.socket, '--json');
    return outcome.code === 0 ? outcome.json<StatusView>() : undefined;
  }
}

describe('replicas', { skip: dockerMissing() ?? testImageMissing() ?? false }, () => {
  let engine: TestEngine;
  let fleet: Fleet;
  let creations: CreationWatch;
  const replicas: Replica[] = [];
  before(async () => {
    engine = await startDocker();
    await loadTestImages(engine);
    creations = new CreationWatch(engine.socketPath);
    await creations.open();
    fleet = await startFleet({ dockerHost: engine.host });
    for (const name of ['a', 'b', 'c']) replicas.push(new Replica(fleet, name));
    const token = await fleet.token();
    for (const { agent } of replicas) agent.start(['--token', token]);
    await replicas[0]!.agent.online();
  });
  after(async () => {
    creations?.[Symbol.dispose]();
    await fleet?.[Symbol.asyncDispose]();
    await engine?.dispose();
  });

  const roles = async () => {
    const found = await Promise.all(replicas.map(async (replica) => ({ replica, status: await replica.status() })));
    const leaders = found.filter(({ status }) => status?.leadership.role === 'leader');
    assert.ok(leaders.length <= 1, 'never two leaders');
    return { leaders, standbys: found.filter(({ status }) => status?.leadership.role === 'standby') };
  };
  /** The one that leads, with its link open. */
  const leader = async (afterEpoch = 0) =>
    await fleet.until(
      `a leader after epoch ${afterEpoch}`,
      async () => {
        const { leaders } = await roles();
        const [one] = leaders;
        if (one === undefined || one.status?.link_state !== 'open') return undefined;
        return one.status.leadership.epoch > afterEpoch ? { ...one.replica, ...one.status.leadership } : undefined;
      },
      () => replicas.map(({ agent }) => agent.command.stderr).join('\n---\n'),
    );
  const submitted = async () => {
    const outcome = await fleet.longline(
      ...['job', 'submit', '--agent', ID, '--image', TEST_IMAGE, '--json', '--', 'sh', '-c', SCRIPT],
    );
    return outcome.json<{ id: string }>().id;
  };
  const printed = async (job: string) => (await fleet.longline('job', 'logs', job)).stdout.toString();
  const ended = async (job: string) => (await fleet.longline('job', 'wait', job, '--json')).json<JobView>();

  test('one leads, and the others stand by and know who does', async () => {
    const first = await leader();
    const standbys = await fleet.until('two standbys that know the leader', async () => {
      const found = (await roles()).standbys.map(({ status }) => status!);
      return found.length === 2 && found.every(({ leadership }) => leadership.leader !== null) ? found : undefined;
    });
    for (const { leadership, link_state } of standbys) {
      assert.equal(link_state, 'closed');
      assert.equal(leadership.epoch, first.epoch);
      assert.equal(leadership.leader, first.leader);
    }
  });

  test('kill -9 of the leader: another leads within 15 s, and the job that ran goes on', async () => {
    const first = await leader();
    const job = await submitted();
    await fleet.until('some output', async () => ((await printed(job)).includes('line 3') ? true : undefined));
    const killedAt = performance.now();
    await first.agent.kill9();
    const second = await leader(first.epoch);
    const tookMs = performance.now() - killedAt;
    assert.ok(tookMs < 15_000, `took ${tookMs} ms`);
    const result = await ended(job);
    assert.equal(result.state, 'succeeded', JSON.stringify(result));
    const lines = (await printed(job)).trimEnd().split('\n');
    assert.deepEqual(
      lines,
      Array.from({ length: LINES }, (_, index) => `line ${index + 1}`),
    );
    assert.equal(second.epoch, first.epoch + 1);
    first.agent.start();
    await untilNoContainers(engine.socketPath);
  });

  test('an orderly stop hands over, and nothing that runs is touched', async () => {
    const first = await leader();
    const job = await submitted();
    await fleet.until('some output', async () => ((await printed(job)).includes('line 3') ? true : undefined));
    await first.agent.stop();
    const stoppedAt = performance.now();
    const second = await leader(first.epoch);
    const elected = /"this replica leads"|"msg":"this replica leads"/.exec(second.agent.command.stderr);
    assert.ok(elected, 'it says so');
    const tookMs = performance.now() - stoppedAt;
    // Two seconds until it leads; the rest is its start and this test's own processes.
    assert.ok(tookMs < 15_000, `took ${tookMs} ms`);
    assert.equal((await ended(job)).state, 'succeeded');
    first.agent.start();
  });
});
