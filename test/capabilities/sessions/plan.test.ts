import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { DEFAULT_SESSIONS_CONFIG } from '../../../src/capabilities/sessions/config.ts';
import {
  bringUpPlan,
  containerSpecOf,
  LABEL,
  namesOf,
  removalPlan,
  sleepPlan,
  specDigest,
  standingOf,
} from '../../../src/capabilities/sessions/plan.ts';
import type { SessionRecord } from '../../../src/capabilities/sessions/record.ts';
import { type Recovery, recoveryOf } from '../../../src/capabilities/sessions/recovery.ts';
import { parseSessionSpec } from '../../../src/capabilities/sessions/spec.ts';
import { freeSubnets, isSubnetPool } from '../../../src/capabilities/sessions/subnet-pool.ts';
import { type SessionSpecInit, sessionSpecMessage } from '../../../src/capabilities/sessions/wire.ts';

function specOf(changes: SessionSpecInit = {}) {
  return parseSessionSpec(sessionSpecMessage({ image: 'desktop', ...changes }), DEFAULT_SESSIONS_CONFIG);
}

const spec = specOf({
  volumes: [
    { name: 'home', target: '/home' },
    { name: 'pool', scope: 2, target: '/pool' },
  ],
  owner: 'ann',
  ports: [{ name: 'vnc', number: 5901 }],
});
const names = namesOf('one', spec, DEFAULT_SESSIONS_CONFIG);
const identity = { sessionId: 'one', instanceId: 'me', generation: 1, imageId: 'sha256:1' };
const container = containerSpecOf(spec, names, identity, DEFAULT_SESSIONS_CONFIG);

suite('plans of a session', () => {
  test('name everything the same at every try, apart for every scope', () => {
    assert.deepEqual(names, {
      container: 'longline-session-one',
      network: 'longline-session-one',
      ownNetwork: true,
      volumes: ['longline-session-one.home', 'longline-owner-ann.pool'],
    });
    const other = (network: SessionSpecInit['network']) =>
      namesOf('x', specOf(network && { network }), DEFAULT_SESSIONS_CONFIG);
    assert.deepEqual([other({ mode: 2 }).network, other({ mode: 2 }).ownNetwork], ['longline', false]);
    assert.deepEqual([other({ mode: 3, name: 'lan' }).network, other({ mode: 4 }).network], ['lan', undefined]);
  });

  test('make what is missing, adopt what is ours, replace what is outdated', () => {
    const steps = (standing: Parameters<typeof bringUpPlan>[2]) =>
      bringUpPlan(spec, names, standing).map(({ step }) => step);
    const ready = ['running', 'tunnel_ready'];
    const places = ['network', 'volume', 'volume'];
    assert.deepEqual(steps({ kind: 'absent' }), [...places, 'pull', 'create', 'start', ...ready]);
    assert.deepEqual(steps({ kind: 'outdated', containerId: 'x' }), [
      'remove_container',
      ...places,
      'pull',
      'create',
      'start',
      ...ready,
    ]);
    assert.deepEqual(steps({ kind: 'ours', containerId: 'x', state: 'running' }), ready);
    assert.deepEqual(steps({ kind: 'ours', containerId: 'x', state: 'paused' }), ['start', ...ready]);
    assert.deepEqual(steps({ kind: 'ours', containerId: 'x', state: 'exited' }), ['start', ...ready]);
    assert.deepEqual(steps({ kind: 'ours', containerId: 'x', state: 'created' }), [...places, 'start', ...ready]);
  });

  test('wait for no port of a session without a network', () => {
    const alone = specOf({ network: { mode: 4 }, ports: [{ name: 'vnc', number: 5901 }] });
    const plan = bringUpPlan(alone, namesOf('x', alone, DEFAULT_SESSIONS_CONFIG), { kind: 'absent' });
    assert.deepEqual(
      plan.map(({ step }) => step),
      ['pull', 'create', 'start', 'running'],
    );
  });

  test('judge what stands under the name by its labels alone', () => {
    const found = { id: 'x', state: 'running' as const, labels: container.labels };
    assert.equal(standingOf(undefined, container.labels).kind, 'absent');
    assert.equal(standingOf(found, container.labels).kind, 'ours');
    const labelled = (label: string) => ({ ...found, labels: { ...found.labels, [label]: 'other' } });
    assert.equal(standingOf(labelled(LABEL.instance), container.labels).kind, 'foreign');
    assert.equal(standingOf(labelled(LABEL.session), container.labels).kind, 'foreign');
    assert.equal(standingOf(labelled(LABEL.generation), container.labels).kind, 'outdated');
    assert.equal(standingOf(labelled(LABEL.spec), container.labels).kind, 'outdated');
    assert.equal(standingOf({ ...found, state: 'removing' }, container.labels).kind, 'outdated');
  });

  test('put to sleep what runs, deeper what is paused, and nothing that is down already', () => {
    const steps = (...args: Parameters<typeof sleepPlan>) => sleepPlan(...args).map(({ step }) => step);
    assert.deepEqual(steps(names, 'pause', 'running'), ['pause']);
    assert.deepEqual(steps(names, 'pause', 'paused'), []);
    assert.deepEqual(steps(names, 'stop', 'paused'), ['stop']);
    assert.deepEqual(steps(names, 'stop', 'exited'), []);
  });

  test('keep volumes unless asked, and those of other scopes always', () => {
    const volumes = (remove: boolean) =>
      removalPlan(spec, names, 'running', remove)
        .filter(({ step }) => step === 'remove_volume')
        .map(({ subject }) => subject);
    assert.deepEqual(volumes(false), []);
    assert.deepEqual(volumes(true), ['longline-session-one.home']);
    const shared = specOf({ network: { mode: 2 } });
    const steps = removalPlan(shared, namesOf('x', shared, DEFAULT_SESSIONS_CONFIG), undefined, true).map(
      ({ step }) => step,
    );
    assert.deepEqual(steps, ['remove_container']);
  });

  test('give a spec that survived JSON the same digest, and any other another', () => {
    assert.equal(specDigest(JSON.parse(JSON.stringify(spec))), specDigest(spec));
    assert.notEqual(specDigest({ ...spec, cpus: 2 }), specDigest(spec));
  });
});

suite('recovery of a session', () => {
  const record = (changes: Partial<SessionRecord>) => ({ ...({} as SessionRecord), spec, ...changes });
  const running = record({ goal: { kind: 'running' }, state: { kind: 'running' } });
  const kindOf = (one: SessionRecord, at: Parameters<typeof recoveryOf>[1]): Recovery['kind'] =>
    recoveryOf(one, at).kind;

  test('adopts what runs, restarts what the host took down, and judges what ended by itself', () => {
    assert.equal(kindOf(running, { container: 'running', disturbed: true }), 'adopt');
    assert.equal(kindOf(running, { container: 'exited', disturbed: true }), 'bring_up');
    assert.equal(kindOf(running, { container: 'exited', disturbed: false }), 'ended');
    assert.equal(kindOf(running, { container: undefined, disturbed: false }), 'bring_up');
    assert.equal(kindOf(running, { container: 'paused', disturbed: false }), 'bring_up');
  });

  test('goes on with what was under way, and leaves alone what is over', () => {
    const at = { container: 'running', disturbed: false } as const;
    const goal = { kind: 'asleep', tier: 'pause' } as const;
    assert.equal(kindOf(record({ goal: { kind: 'running' }, state: { kind: 'starting' } }), at), 'bring_up');
    assert.equal(kindOf(record({ goal, state: { kind: 'hibernating', tier: 'pause' } }), at), 'hibernate');
    assert.equal(kindOf(record({ goal, state: goal }), { ...at, container: 'paused' }), 'nothing');
    assert.equal(
      kindOf(record({ goal, state: { kind: 'hibernating', tier: 'pause' } }), { ...at, container: 'paused' }),
      'settle',
    );
    assert.equal(kindOf(record({ goal, state: goal }), { ...at, container: 'exited' }), 'memory_lost');
    const gone = { kind: 'gone', removeVolumes: true } as const;
    assert.equal(kindOf(record({ goal: gone, state: { kind: 'stopping' } }), at), 'remove');
    assert.equal(kindOf(record({ goal: gone, state: { kind: 'ended' } }), at), 'nothing');
    assert.equal(kindOf(record({ goal: gone, state: { kind: 'failed' } }), at), 'nothing');
  });
});

suite('the pool of subnets', () => {
  test('gives blocks that overlap with nothing taken, from a place of its own for each seed', () => {
    const [first] = freeSubnets('10.213.0.0/16', [], 'one', 1);
    assert.match(first!, /^10\.213\.\d+\.\d+\/28$/);
    assert.deepEqual(freeSubnets('10.213.0.0/16', [], 'one', 1), [first]);
    assert.ok(!freeSubnets('10.213.0.0/16', [first!], 'one', 5000).includes(first!));
    assert.deepEqual(freeSubnets('10.213.0.0/16', ['10.0.0.0/8'], 'one', 1), []);
    assert.equal(freeSubnets('10.213.0.0/16', ['fd00::/8', 'nonsense'], 'one', 5000).length, 4096);
    assert.equal(isSubnetPool('10.0.0.0/29'), false);
    assert.equal(isSubnetPool('10.0.0.300/16'), false);
  });

  test('never gives one twice while it is taken', () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { maxLength: 64 }), (seeds) => {
        const taken: string[] = [];
        for (const seed of seeds) taken.push(...freeSubnets('10.0.0.0/22', taken, seed, 1));
        assert.equal(new Set(taken).size, taken.length);
        assert.equal(taken.length, Math.min(64, seeds.length));
      }),
    );
  });
});
