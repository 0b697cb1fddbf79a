import assert from 'node:assert/strict';
import { it } from 'node:test';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { programsTopic } from '../../../src/controller/bus/topics.ts';
import { ItemWatch } from '../../../src/controller/services/item-watch.ts';
import { DEFAULT_SERVICE_OPTIONS } from '../../../src/controller/services/service-dependencies.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';

it('a listing of many agents leaves the process to others in between', async () => {
  await using bus = new MemoryBus(silentLogger);
  let turns = 0;
  let read = 0;
  const over = new AbortController();
  const others = (): void => {
    turns += 1;
    if (!over.signal.aborted) setImmediate(others);
  };
  const watch = new ItemWatch<number>(
    { bus, clock: systemClock, options: DEFAULT_SERVICE_OPTIONS },
    {
      stateKind: 2,
      topic: programsTopic,
      concerns: () => true,
      agents: async function* () {
        for (let agent = 0; agent < 1000; agent++) yield String(agent);
      },
      ofAgent: async (agentId) => {
        if (read++ === 0) others();
        return agentId === '999' ? [{ name: 'p', view: turns, told: '' }] : [];
      },
    },
  );
  for await (const event of watch.changes(over.signal)) {
    assert.ok(event.kind === 'there' && event.view >= 10, `${turns} turns of others`);
    over.abort();
  }
  assert.equal(read, 1000);
});
