import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { EventRelay } from '../../../src/capabilities/programs/event-relay.ts';
import type { EventStream } from '../../../src/capabilities/programs/ports.ts';
import type { HostEvent } from '../../../src/core/capability.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import type { ArtifactEvents, EventField } from '../../../src/core/programs/metadata.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';

const FIELDS: readonly EventField[] = [
  { name: 'pid', type: 'uint', offset: 0, size: 4 },
  { name: 'source', type: 'ipv4', offset: 4, size: 4 },
  { name: 'comm', type: 'string', offset: 8, size: 8 },
];

function events(more: Partial<ArtifactEvents> = {}): ArtifactEvents {
  return { map: 'events', type: 'blocked', fields: FIELDS, perSecond: 10, ...more };
}

function record(pid: number, comm = 'curl\0xyz'): Uint8Array {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(pid);
  bytes.set([192, 0, 2, 7], 4);
  bytes.write(comm, 8);
  return bytes;
}

/** Ring buffers by "program/revision/map", and time that stands still until it is moved. */
function setUp(eventsPerSecond = 100) {
  const rings = new Map<string, Uint8Array[]>();
  const open = new Set<string>();
  const broken = new Set<string>();
  const told: HostEvent[] = [];
  let nowMs = 0;
  const openEvents = (place: { program: string; revision: number }, map: string): EventStream => {
    const key = `${place.program}/${place.revision}/${map}`;
    if (!rings.has(key)) throw new LonglineError('not_found', `map ${map} is no ring buffer of the object`);
    open.add(key);
    return {
      take: (most) => {
        if (broken.has(key)) throw new LonglineError('unavailable', 'the ring buffer is gone');
        return rings.get(key)!.splice(0, most);
      },
      [Symbol.dispose]: () => void open.delete(key),
    };
  };
  const clock = { now: () => nowMs, monotonic: () => nowMs, sleep: async () => undefined };
  const emit = (event: HostEvent) => void told.push(event);
  const relay = new EventRelay({ kernel: { openEvents }, clock, log: silentLogger, emit, eventsPerSecond });
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { relay, rings, open, broken, told, pass };
}

describe('events of programs', () => {
  it('are told with their fields, and are never taken for those of the agent', () => {
    const { relay, rings, told } = setUp();
    rings.set('drop/3/events', [record(77)]);
    relay.follow({ program: 'drop', revision: 3 }, [events()]);
    relay.relay();
    assert.deepEqual(told, [
      {
        type: 'program.blocked',
        message: 'drop: blocked pid=77 source=192.0.2.7 comm=curl',
        attributes: { pid: '77', source: '192.0.2.7', comm: 'curl', program: 'drop', revision: '3', map: 'events' },
      },
    ]);
    assert.deepEqual(relay.counts({ program: 'drop', revision: 3 }), { events: 1, droppedEvents: 0 });
  });

  it('are told in hex without fields, and say how short a record was', () => {
    const { relay, rings, told } = setUp();
    rings.set('drop/1/raw', [new Uint8Array([1, 255]), new Uint8Array(1000)]);
    rings.set('drop/1/events', [record(5).subarray(0, 6), new Uint8Array()]);
    relay.follow({ program: 'drop', revision: 1 }, [events({ map: 'raw', fields: [] }), events()]);
    relay.relay();
    const facts = told.map(({ attributes }) => attributes!);
    const raw = facts.filter(({ map }) => map === 'raw');
    assert.equal(raw[0]!['record'], '01ff');
    assert.equal(raw[1]!['record'], `${'00'.repeat(256)}…`);
    const short = facts.filter(({ map }) => map === 'events');
    assert.deepEqual([short[0]!['pid'], short[0]!['source'], short[0]!['record_bytes']], ['5', undefined, '6']);
    assert.equal(short[1]!['record_bytes'], '0');
  });

  it('are told as often as the artifact says; the rest is taken out and counted', () => {
    const { relay, rings, told, pass } = setUp();
    const ring: Uint8Array[] = Array.from({ length: 5000 }, (_, pid) => record(pid));
    rings.set('drop/1/events', ring);
    const place = { program: 'drop', revision: 1 };
    relay.follow(place, [events({ perSecond: 10 })]);
    relay.relay();
    assert.equal(ring.length, 904, 'so many at once that others have their turn');
    relay.relay();
    assert.equal(ring.length, 0);
    assert.deepEqual(relay.counts(place), { events: 10, droppedEvents: 4990 });
    pass(100);
    ring.push(record(1), record(2));
    relay.relay();
    assert.equal(told.at(-1)!.attributes!['dropped'], '4990', 'the next one says how many there were');
    assert.deepEqual(relay.counts(place), { events: 11, droppedEvents: 4991 });
    pass(3_600_000);
    ring.push(...Array.from({ length: 50 }, () => record(3)));
    relay.relay();
    assert.equal(relay.counts(place).events, 21, 'no more than a second is saved up');
  });

  it("share the host's rate, whoever is loudest", () => {
    const { relay, rings, pass } = setUp(10);
    const places = ['a', 'b', 'c'].map((program) => ({ program, revision: 1 }));
    for (const place of places) {
      rings.set(`${place.program}/1/events`, []);
      relay.follow(place, [events({ perSecond: 1000 })]);
    }
    for (let round = 0; round < 30; round++) {
      for (const ring of rings.values()) ring.push(...Array.from({ length: 100 }, () => record(1)));
      relay.relay();
      pass(1000);
    }
    const counts = places.map((place) => relay.counts(place).events);
    assert.deepEqual(counts, [100, 100, 100]);
  });

  it('of a revision end when another is followed, and go on when one ring buffer breaks', () => {
    const { relay, rings, open, broken, told } = setUp();
    for (const key of ['drop/1/events', 'drop/2/events', 'drop/2/more']) rings.set(key, []);
    relay.follow({ program: 'drop', revision: 1 }, [events()]);
    relay.follow({ program: 'drop', revision: 2 }, [events(), events({ map: 'more' })]);
    assert.deepEqual([...open], ['drop/2/events', 'drop/2/more']);
    assert.deepEqual(relay.counts({ program: 'drop', revision: 1 }), { events: 0, droppedEvents: 0 });
    broken.add('drop/2/events');
    rings.get('drop/2/more')!.push(record(1));
    relay.relay();
    relay.relay();
    assert.equal(told.length, 1);
    assert.deepEqual([...open], ['drop/2/more']);
    relay[Symbol.dispose]();
    assert.equal(open.size, 0);
  });

  it('are not followed at all if one ring buffer of the revision is not there', () => {
    const { relay, rings, open } = setUp();
    rings.set('drop/1/events', []);
    const both = [events(), events({ map: 'missing' })];
    assert.throws(() => relay.follow({ program: 'drop', revision: 1 }, both), /map missing is no ring buffer/);
    assert.equal(open.size, 0);
  });

  it('never carry what a terminal acts on, nor more than is kept of an event', () => {
    const property = fc.property(
      fc.uint8Array({ maxLength: 3000 }),
      fc.array(fieldOf(), { maxLength: 64 }),
      (bytes, fields) => {
        const { relay, rings, told } = setUp();
        rings.set('p/1/events', [bytes]);
        relay.follow({ program: 'p', revision: 1 }, [events({ fields })]);
        relay.relay();
        const [event] = told;
        assert.ok(event !== undefined && Object.keys(event.attributes!).length <= 32);
        for (const text of [event.message, ...Object.values(event.attributes!)]) {
          assert.ok(text.length <= 1000 && !/\p{Cc}/u.test(text) && text.isWellFormed());
        }
        assert.equal(event.attributes!['program'], 'p');
      },
    );
    fc.assert(property);
  });

  it('are relayed until the end, also of what is followed later', async () => {
    const told: HostEvent[] = [];
    const ring = [record(1)];
    const stream: EventStream = { take: (most) => ring.splice(0, most), [Symbol.dispose]: () => undefined };
    const { promise: first, resolve } = Promise.withResolvers<void>();
    const emit = (event: HostEvent) => {
      told.push(event);
      resolve();
    };
    const kernel = { openEvents: () => stream };
    const relay = new EventRelay({ kernel, clock: fastClock(100), log: silentLogger, emit, eventsPerSecond: 100 });
    const stop = new AbortController();
    const running = relay.run(stop.signal);
    relay.follow({ program: 'drop', revision: 1 }, [events()]);
    await first;
    assert.equal(told.length, 1);
    relay[Symbol.dispose]();
    stop.abort();
    await running;
  });
});

function fieldOf() {
  return fc.record<EventField>({
    name: fc.constantFrom('program', 'map', 'a', 'b', 'comm'),
    type: fc.constantFrom('uint', 'int', 'bool', 'string', 'ipv4', 'ipv6', 'mac', 'bytes', 'prefix'),
    offset: fc.nat(3000),
    size: fc.integer({ min: 1, max: 3000 }),
  });
}
