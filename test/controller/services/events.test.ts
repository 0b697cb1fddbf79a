// What agents tell outside any command: kept, bounded, listed and followed.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import type { AgentEvent } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { FleetUnderTest, until } from '../link/fleet-fixture.ts';

type Control = Awaited<ReturnType<ReturnType<FleetUnderTest['agent']>['connect']>>;

describe('events of agents', () => {
  let fleet: FleetUnderTest;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start({ link: { keptEvents: 5 } });
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const tell = (control: Control, message: string, attributes: Record<string, string> = {}) =>
    control.send({ case: 'event', value: { type: 'engine.lost', message, attributes, capability: 'jobs' } });
  const listed = async (agentId = '', pageSize = 0, pageToken = '') =>
    await fleet.agents.listEvents({ agentId, pageSize, pageToken });
  const messages = (events: readonly AgentEvent[]) => events.map(({ event }) => event?.message);
  const stored = async (agentId: string, message: string) => {
    await until(`${message} is stored`, async () => messages((await listed(agentId)).events).includes(message));
  };

  it('are kept up to a number for each agent, newest first, in pages', async () => {
    const [a, b] = [await fleet.agent('a').connect(), await fleet.agent('b').connect()];
    tell(b, 'of b');
    await stored('b', 'of b');
    for (let index = 1; index <= 8; index++) tell(a, `a${index}`, { index: String(index) });
    await stored('a', 'a8');
    const { events } = await listed('a');
    assert.deepEqual(messages(events), ['a8', 'a7', 'a6', 'a5', 'a4']);
    assert.deepEqual(events[0]?.event?.attributes, { index: '8' });
    assert.equal(events[0]?.agentId, 'a');
    const first = await listed('', 4);
    assert.deepEqual(messages(first.events), ['a8', 'a7', 'a6', 'a5']);
    const second = await listed('', 4, first.nextPageToken);
    assert.deepEqual([messages(second.events), second.nextPageToken], [['a4', 'of b'], '']);
  });

  it('are cut to a size, whatever the agent says', async () => {
    const a = await fleet.agent('a').connect();
    const facts = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`f${index}`, 'x'.repeat(5000)]));
    tell(a, 'y'.repeat(100_000), facts);
    await until('it is stored', async () => (await listed('a')).events.length === 1);
    const { event } = (await listed('a')).events[0]!;
    assert.equal(event!.message.length, 4096);
    assert.equal(Object.keys(event!.attributes).length, 32);
    assert.equal(event!.attributes['f0']!.length, 1024);
  });

  it('are followed from the kept ones on, each once, and forgotten with their agent', async () => {
    const a = await fleet.agent('a').connect();
    for (const message of ['one', 'two', 'three']) tell(a, message);
    await stored('a', 'three');
    const leaving = new AbortController();
    const seen: AgentEvent[] = [];
    const following = (async () => {
      const events = fleet.agents.watchEvents({ agentId: 'a', backlog: 2 }, { signal: leaving.signal });
      for await (const { event } of events) seen.push(event!);
    })();
    following.catch(() => undefined);
    await until('the kept ones are told', () => seen.length === 2);
    tell(a, 'four');
    await until('the new one is told', () => seen.length === 3);
    assert.deepEqual(messages(seen), ['two', 'three', 'four']);
    leaving.abort();
    a.close();
    await until('it is gone', async () =>
      fleet.agents.deleteAgent({ agentId: 'a' }).then(
        () => true,
        () => false,
      ),
    );
    assert.deepEqual((await listed()).events, []);
  });

  it('are asked for with ids and numbers that make sense', async () => {
    const wrong = (error: unknown) => error instanceof ConnectError && error.code === Code.InvalidArgument;
    await assert.rejects(listed('a b'), wrong);
    await assert.rejects(fleet.agents.watchEvents({ backlog: 5000 })[Symbol.asyncIterator]().next(), wrong);
  });
});
