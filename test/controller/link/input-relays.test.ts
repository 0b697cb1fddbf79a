import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { type Input, InputAckSchema } from '#gen/longline/link/v1/link_pb.js';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { agentInputTopic, type InputState, inputStateTopic } from '../../../src/controller/bus/topics.ts';
import { InputRelays } from '../../../src/controller/link/input-relays.ts';
import { silentLogger } from '../../../src/core/logger.ts';

const BYTES = { executionId: 'x', offset: 0, data: Buffer.from('hello'), end: true };

function sink() {
  const sent: Input[] = [];
  return { sent, writable: true, sendInput: (input: Input) => void sent.push(input) };
}

suite('input relays', () => {
  test('hear of input before there is a log stream, and ask for it once there is one', async () => {
    await using bus = new MemoryBus(silentLogger);
    const relays = new InputRelays(bus);
    const states: InputState[] = [];
    using _states = await bus.listen(inputStateTopic('x'), (event) => {
      if (event.kind === 'message') states.push(event.message);
    });
    await using _control = await relays.hold('host-1');
    bus.publish(agentInputTopic('host-1'), BYTES);
    await using logs = await relays.hold('host-1');
    const stream = sink();
    logs.relay.attach(stream);
    assert.deepEqual(
      stream.sent.map(({ logId, data }) => [logId, data.length]),
      [['x', 0]],
      'how much was taken is asked for',
    );
    logs.relay.acknowledged(create(InputAckSchema, { logId: 'x' }));
    assert.deepEqual(states.at(-1), { accepted: 0, ended: false, closed: false }, 'whoever writes hears that it may');
    bus.publish(agentInputTopic('host-1'), BYTES);
    assert.equal(String(stream.sent.at(-1)!.data), 'hello');
  });

  test('listen once however many streams there are, and as long as there is one', async () => {
    await using bus = new MemoryBus(silentLogger);
    const relays = new InputRelays(bus);
    const first = await relays.hold('host-1');
    const second = await relays.hold('host-1');
    assert.equal(second.relay, first.relay);
    const stream = sink();
    first.relay.attach(stream);
    await first[Symbol.asyncDispose]();
    await first[Symbol.asyncDispose]();
    bus.publish(agentInputTopic('host-1'), BYTES);
    assert.equal(stream.sent.length, 1);
    second.relay.detach(stream);
    await second[Symbol.asyncDispose]();
    const later = await relays.hold('host-1');
    assert.equal(later.relay, second.relay, 'what may have to be sent again is kept');
    await later[Symbol.asyncDispose]();
    bus.publish(agentInputTopic('host-1'), { ...BYTES, executionId: 'y' });
    const again = sink();
    later.relay.attach(again);
    assert.deepEqual(
      again.sent.map(({ logId }) => logId),
      ['x'],
    );
  });
});
