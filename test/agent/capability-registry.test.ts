import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CapabilityRegistry } from '../../src/agent/capability-registry.ts';
import type { Availability, Capability, CapabilityEvent, CapabilityHost } from '../../src/core/capability.ts';
import { LonglineError } from '../../src/core/errors.ts';
import { silentLogger } from '../../src/core/logger.ts';

const COMMAND = { id: 'c1', action: new Uint8Array(), receivedAtMs: 0, expiresAtMs: 0, traceparent: '' };
const UP: Availability = { available: true, limits: {}, attributes: {} };
const DOWN: Availability = { available: false, reason: 'no engine', mend: 'start one' };

function fake(says: () => Availability) {
  const seen = { opened: 0, adopted: [] as string[][], disposed: 0 };
  const capability: Capability & { adopt(ids: ReadonlySet<string>): Promise<void> } = {
    name: 'jobs',
    open: async () => {
      seen.opened++;
      return says();
    },
    async *handle() {
      yield { kind: 'result', outcome: 'succeeded', detail: new Uint8Array([1]) };
    },
    adopt: async (ids) => {
      seen.adopted.push([...ids]);
    },
    [Symbol.asyncDispose]: async () => {
      seen.disposed++;
    },
  };
  return { capability, seen };
}

const host = {} as CapabilityHost;
const registryOf = (...capabilities: Capability[]) => new CapabilityRegistry(capabilities, () => host, silentLogger);

async function run(registry: CapabilityRegistry, name: string, resumed = false): Promise<CapabilityEvent[]> {
  const context = { signal: new AbortController().signal, resumed };
  return Array.fromAsync(registry.execute(name, COMMAND, context));
}

test('an unavailable capability is opened again, adopts once, and then carries out commands', async () => {
  let answer: Availability = DOWN as Availability;
  const { capability, seen } = fake(() => answer);
  await using registry = registryOf(capability);
  assert.equal(await registry.open(() => new Set(['c1'])), true);
  const [refused] = await run(registry, 'jobs');
  assert.ok(refused?.kind === 'result' && refused.error?.reason === 'unavailable');
  assert.match(refused.error.message, /no engine; start one/);
  assert.deepEqual(seen.adopted, []);

  answer = UP;
  assert.equal(await registry.open(() => new Set(['c1'])), true);
  assert.equal(await registry.open(() => new Set()), false);
  assert.deepEqual(seen, { opened: 2, adopted: [['c1']], disposed: 0 });
  const [done] = await run(registry, 'jobs');
  assert.ok(done?.kind === 'result' && done.outcome === 'succeeded');
});

test('a resumed command reaches its capability even if that is unavailable: only it can tell what became of it', async () => {
  const { capability } = fake(() => DOWN);
  await using registry = registryOf(capability);
  await registry.open(() => new Set());
  const [event] = await run(registry, 'jobs', true);
  assert.ok(event?.kind === 'result' && event.outcome === 'succeeded');
});

test('only a capability that prepares is called before its command is durable', async () => {
  const calls: string[] = [];
  const called = (name: string, more: object): Capability => ({
    ...fake(() => UP).capability,
    ...more,
    name,
    async *handle() {
      calls.push(name);
      yield { kind: 'result', outcome: 'succeeded', detail: new Uint8Array() };
    },
  });
  await using registry = registryOf(called('jobs', { anticipates: true }), called('plain', {}));
  await registry.open(() => new Set());
  const { promise: durable, resolve } = Promise.withResolvers<void>();
  const context = { signal: new AbortController().signal, resumed: false, durable };
  const running = ['plain', 'jobs'].map((name) => Array.fromAsync(registry.execute(name, COMMAND, context)));
  await running[1];
  assert.deepEqual(calls, ['jobs']);
  resolve();
  await running[0];
  assert.deepEqual(calls, ['jobs', 'plain']);
});

test('a resumed command whose record failed is not handed on, and what became of it is not known', async () => {
  const { capability } = fake(() => UP);
  await using registry = registryOf(capability);
  await registry.open(() => new Set());
  const durable = Promise.reject(new LonglineError('limit', 'no room for the audit log'));
  const context = { signal: new AbortController().signal, resumed: true, durable };
  const events = await Array.fromAsync(registry.execute('jobs', COMMAND, context));
  assert.deepEqual(
    events.map((event) => event.kind === 'result' && [event.outcome, event.error?.reason]),
    [['indeterminate', 'limit']],
  );
});

test('an unknown capability is refused with what there is', async () => {
  const { capability } = fake(() => UP);
  await using registry = registryOf(capability);
  await registry.open(() => new Set());
  const [event] = await run(registry, 'sessions');
  assert.ok(event?.kind === 'result' && event.error?.reason === 'unsupported');
  assert.match(event.error.message, /no capability sessions; it has: jobs/);
});

test('a capability that throws while opening is unavailable, and disposing goes on past one that throws', async () => {
  const { capability, seen } = fake(() => {
    throw new LonglineError('limit', 'disk full');
  });
  const broken: Capability = {
    ...capability,
    name: 'broken',
    [Symbol.asyncDispose]: async () => {
      throw new Error('stuck');
    },
  };
  const registry = registryOf(broken, capability);
  await registry.open(() => new Set());
  const availability = registry.availability.get('jobs');
  assert.ok(availability?.available === false && availability.reason === 'disk full');
  await registry[Symbol.asyncDispose]();
  assert.equal(seen.disposed, 1);
});
