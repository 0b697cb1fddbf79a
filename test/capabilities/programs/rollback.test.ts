import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ProgramsCapability } from '../../../src/capabilities/programs/capability.ts';
import { decodeResult, encodeAction } from '../../../src/capabilities/programs/wire.ts';
import type { CapabilityEvent } from '../../../src/core/capability.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { applyFull, ProgramsWorld, spec, until, untilLife } from './programs-fixture.ts';

const COUNTERS = {
  counters: {
    packets: { map: 'counters', key: '0', offset: 0 },
    violations: { map: 'counters', key: '0', offset: 8 },
    errors: { map: 'counters', key: '0', offset: 16 },
  },
};

/** A world where the second revision of a program has just taken over from a good one. */
async function withTwo(world: ProgramsWorld) {
  const capability = await world.start();
  const first = await world.artifact({ more: COUNTERS });
  await applyFull(capability, 1, [spec('counter', first)]);
  await untilLife(capability, 'counter', 'probation');
  await world.pass(61_000);
  await untilLife(capability, 'counter', 'active');
  const second = await world.artifact({ version: '2.0.0', more: COUNTERS });
  await applyFull(capability, 2, [spec('counter', second)]);
  await until('the second runs', () => (capability.look()[0]?.current?.number === 2 ? true : undefined));
  world.changes.length = 0;
  return { capability, first, second };
}

const errorsOf = (world: ProgramsWorld, revision: number, by: number) =>
  world.host.count({ program: 'counter', revision }, by, 'counters', '0', 16);

async function command(
  capability: ProgramsCapability,
  action: Parameters<typeof encodeAction>[0]['action'],
  { id = 'command-1', resumed = false } = {},
): Promise<Extract<CapabilityEvent, { kind: 'result' }>> {
  const whole = { id, action: encodeAction({ action: action! }), receivedAtMs: 0, expiresAtMs: 1e15, traceparent: '' };
  const events: CapabilityEvent[] = [];
  const context = { signal: new AbortController().signal, resumed };
  for await (const event of capability.handle(whole, context)) events.push(event);
  assert.equal(events.length, 1);
  const [result] = events;
  assert.ok(result?.kind === 'result');
  return result;
}

describe('a program that can not be looked at', () => {
  it('is said once to go unwatched', async () => {
    await using world = new ProgramsWorld();
    await withTwo(world);
    const told = () => world.log.lines.filter((line) => /goes unwatched/.test(JSON.stringify(line)));
    const error = new LonglineError('unavailable', 'the pins of counter revision 2 are gone');
    world.kernel.failNext('stats', error, { times: 1000 });
    await world.pass(31_000);
    const [first] = await until('it is said', () => (told().length > 0 ? told() : undefined));
    assert.match(JSON.stringify(first), /counter.*the pins of counter revision 2 are gone/);
    await world.pass(31_000);
    await world.pass(31_000);
    assert.equal(told().length, 1);
  });
});

describe('a program that exceeds a threshold', () => {
  it('goes back to the revision before in one step, after a second look', async () => {
    await using world = new ProgramsWorld();
    const { capability, first, second } = await withTwo(world);
    await world.pass(31_000);
    errorsOf(world, 2, 50);
    await world.pass(31_000);
    assert.deepEqual(world.host.runningAt('xdp:eth0'), [{ program: 'counter', revision: 2 }], 'not at the first look');
    errorsOf(world, 2, 50);
    await world.pass(5_000);
    const view = await until('it went back', () => capability.look().find(({ current }) => current?.number === 1));
    assert.deepEqual(world.host.runningAt('xdp:eth0'), [{ program: 'counter', revision: 1 }]);
    await world.settle();
    assert.equal(capability.look()[0]?.life.kind, 'active');
    assert.equal(view.current?.artifact, first);
    const { lastRollback } = view;
    assert.equal(lastRollback?.trigger, 'errors');
    assert.equal(lastRollback?.threshold, 10);
    assert.equal(lastRollback?.value, 50);
    assert.equal(lastRollback?.from.artifact, second);
    assert.equal(lastRollback?.figures?.errorsDelta, 50n);
    assert.deepEqual(
      world.changes.map(({ what }) => what),
      ['rolled_back'],
    );
    assert.ok(world.events.some(({ type }) => type === 'program.rolled_back'));
    assert.ok(world.events.some(({ type }) => type === 'program.quarantined'));
  });

  it('stays if the second look finds all well', async () => {
    await using world = new ProgramsWorld();
    const { capability } = await withTwo(world);
    await world.pass(31_000);
    errorsOf(world, 2, 50);
    await world.pass(31_000);
    await world.pass(5_000);
    await world.pass(31_000);
    assert.equal(capability.look()[0]?.current?.number, 2);
    assert.deepEqual(capability.rollbacks(), []);
  });

  it('is unloaded if there is none to go back to, and is not loaded again', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const only = await world.artifact({ more: COUNTERS });
    await applyFull(capability, 1, [spec('counter', only)]);
    await untilLife(capability, 'counter', 'probation');
    // Counted from when it was loaded: what it does before the first look is not missed.
    for (const ms of [31_000, 5_000]) {
      errorsOf(world, 1, 50);
      await world.pass(ms);
    }
    const view = await untilLife(capability, 'counter', 'failed');
    assert.equal(view.quarantined, true);
    assert.equal(view.current, undefined);
    assert.deepEqual([world.host.revisions.size, world.host.attachments.size], [0, 0]);
    world.kernel.calls.length = 0;
    await world.pass(3_000_000, 100);
    assert.ok(!world.kernel.calls.some((call) => call.startsWith('load')));
    assert.equal(capability.rollbacks().length, 1);
  });

  it('never flaps: what was left is not taken again until something says so', async () => {
    await using world = new ProgramsWorld({ defaultTtlMs: 0 });
    const { capability, first, second } = await withTwo(world);
    await capability.rollBack({ program: 'counter', artifact: undefined, reason: 'bad', requestedBy: 'local' });
    await applyFull(capability, 3, [spec('counter', second, { thresholds: { maxErrors: 5n } })]);
    await world.pass(7_200_000, 50);
    assert.equal(capability.look()[0]?.current?.artifact, first);
    assert.match(capability.look()[0]!.problems[0]!.error.message, /quarantined.*bad/);
    await applyFull(capability, 4, [spec('counter', second, { renewal: 1n })]);
    await until('it is tried again', () => capability.look().find(({ current }) => current?.artifact === second));
    assert.deepEqual(capability.quarantined(), []);
  });

  it('does not hold its artifact back where only the parameters changed', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const artifact = await world.artifact();
    const wanted = (limit: string) => spec('counter', artifact, { parameters: { limit } });
    await applyFull(capability, 1, [wanted('1')]);
    await untilLife(capability, 'counter', 'probation');
    await applyFull(capability, 2, [wanted('2')]);
    await until('the second runs', () => (capability.look()[0]?.current?.number === 2 ? true : undefined));
    await capability.rollBack({ program: 'counter', artifact, reason: 'bad', requestedBy: 'local' });
    assert.equal(capability.look()[0]?.quarantined, true);
    await applyFull(capability, 3, [wanted('3')]);
    await until('other parameters are taken', () => capability.look().find(({ current }) => current?.number === 3));
    assert.equal(capability.look()[0]?.quarantined, false);
  });

  it('that cannot take its place back leaves it all the same', async () => {
    await using world = new ProgramsWorld();
    const { capability } = await withTwo(world);
    const { LonglineError } = await import('../../../src/core/errors.ts');
    const error = new LonglineError('internal', 'the link is broken');
    world.kernel.failNext('replace', error, { about: /counter\/1/, times: 5 });
    const told = await capability.rollBack({
      program: 'counter',
      artifact: undefined,
      reason: 'bad',
      requestedBy: 'nats',
    });
    assert.match(told.error ?? '', /broken/);
    assert.deepEqual(
      world.host.runningAt('xdp:eth0'),
      [{ program: 'counter', revision: 1 }],
      'attached anew after it was detached',
    );
  });
});

describe('commands about programs', () => {
  it('roll back, and tell how that ended', async () => {
    await using world = new ProgramsWorld();
    const { capability, second } = await withTwo(world);
    const wrong = await command(capability, {
      case: 'rollBack',
      value: { name: 'counter', artifact: `sha256:${'0'.repeat(64)}` },
    });
    assert.equal(wrong.error?.reason, 'wrong_state');
    const { outcome, detail } = await command(capability, {
      case: 'rollBack',
      value: { name: 'counter', reason: 'why not' },
    });
    assert.equal(outcome, 'succeeded');
    const { result } = decodeResult(detail);
    assert.ok(result.case === 'rollback');
    assert.equal(result.value.from?.artifact, second);
    assert.equal(result.value.to?.number, 1n);
    assert.equal(result.value.requestedBy, 'command-1');
    assert.equal(result.value.reason, 'why not');
    const again = await command(capability, { case: 'rollBack', value: { name: 'counter' } }, { resumed: true });
    assert.deepEqual(again.detail, detail, 'a command that is resumed is not done twice');
    assert.equal(capability.rollbacks().length, 1);
  });

  it('release what is quarantined, and what is wanted is tried again', async () => {
    await using world = new ProgramsWorld();
    const { capability, second } = await withTwo(world);
    await capability.rollBack({ program: 'counter', artifact: undefined, reason: 'bad', requestedBy: 'local' });
    const { outcome, detail } = await command(capability, { case: 'releaseQuarantine', value: {} });
    assert.equal(outcome, 'succeeded');
    const { result } = decodeResult(detail);
    assert.deepEqual(result.value?.$typeName === 'longline.v1.ReleasedQuarantine' ? result.value.artifacts : [], [
      second,
    ]);
    await until('it runs again', () => capability.look().find(({ current }) => current?.artifact === second));
  });

  it('are refused if they make no sense', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const nobody = await command(capability, { case: 'rollBack', value: { name: 'nobody' } });
    assert.equal(nobody.error?.reason, 'not_found');
    const permit = await command(capability, { case: 'permit', value: {} });
    assert.equal(permit.error?.reason, 'unsupported');
    const long = await command(capability, { case: 'rollBack', value: { name: 'a', reason: 'x'.repeat(1025) } });
    assert.equal(long.error?.reason, 'invalid');
  });
});
