import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { RegistryAnswer } from '../../../src/capabilities/programs/ports.ts';
import { RegistryFollower } from '../../../src/capabilities/programs/registry-follower.ts';
import { decodeStateDetail, encodeSpec, specMessage } from '../../../src/capabilities/programs/wire.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';
import { RecordedLog } from '../../link/scratch.ts';
import { MemoryState } from '../jobs/jobs-fixture.ts';
import { ProgramsWorld, until, untilLife } from './programs-fixture.ts';

const artifact = `sha256:${'a'.repeat(64)}`;
const listing = (...names: string[]): RegistryAnswer => ({
  kind: 'programs',
  specs: names.map((name) => encodeSpec(specMessage({ name, artifact }))),
  refused: [],
});

/** A follower of a registry that says each of these once, and then that nothing changed. */
function following(state: MemoryState, answers: (RegistryAnswer | Error)[]) {
  const clock = new ManualClock();
  const log = new RecordedLog();
  const seen = { changes: 0, polls: 0 };
  const registry = {
    poll: async (): Promise<RegistryAnswer> => {
      seen.polls += 1;
      const answer = answers.shift() ?? { kind: 'unchanged' as const };
      if (answer instanceof Error) throw answer;
      return answer;
    },
  };
  const changed = () => {
    seen.changes += 1;
  };
  const follower = new RegistryFollower({ registry, state, clock, log, pollIntervalMs: 30_000, changed });
  const stop = new AbortController();
  const running = follower.run(stop.signal);
  const nextPoll = async () => {
    const polls = seen.polls + 1;
    await until('it waits', () => clock.waiting > 0 || undefined);
    clock.advance(30_000);
    await until('it has polled', () => (seen.polls >= polls && clock.waiting > 0) || undefined);
  };
  const end = async () => {
    stop.abort();
    await running;
  };
  return { follower, seen, log, nextPoll, end };
}

const namesOf = ({ specs }: RegistryFollower) => specs.map(({ name }) => name);

suite('what a registry says', () => {
  test('stands until it says something else, also in a later process', async () => {
    const state = new MemoryState();
    const down = new LonglineError('unavailable', 'down');
    const first = following(state, [listing('one'), down, listing('one', 'two')]);
    await first.nextPoll();
    assert.deepEqual([namesOf(first.follower), first.follower.trouble], [['one'], 'down']);
    await first.nextPoll();
    assert.deepEqual([namesOf(first.follower), first.follower.trouble], [['one', 'two'], undefined]);
    await first.end();
    const later = new RegistryFollower({ state, log: new RecordedLog() } as never);
    await later.load();
    assert.deepEqual(namesOf(later), ['one', 'two']);
  });

  test('is taken as soon as it can be kept, though the registry says it once', async () => {
    const state = new MemoryState();
    const put = state.put.bind(state);
    let failures = 2;
    state.put = async (key, value) => {
      failures -= 1;
      if (failures >= 0) throw new LonglineError('limit', 'no room');
      await put(key, value);
    };
    const { follower, seen, log, nextPoll, end } = following(state, [listing('one')]);
    await nextPoll();
    assert.deepEqual([namesOf(follower), seen.changes, follower.trouble], [[], 0, 'no room']);
    await nextPoll();
    assert.deepEqual([namesOf(follower), seen.changes, follower.trouble], [['one'], 1, undefined]);
    await nextPoll();
    assert.equal(seen.changes, 1);
    assert.equal(log.lines.filter(({ level }) => level === 'warn').length, 1, 'the same trouble is told once');
    await end();
  });
});

suite('programs that a registry asked for', () => {
  test('are told of also when the last one is gone, and when there is none', async () => {
    await using world = new ProgramsWorld();
    const artifact = await world.artifact();
    world.registryAnswer = {
      kind: 'programs',
      specs: [encodeSpec(specMessage({ name: 'counter', artifact }))],
      refused: [],
    };
    const capability = await world.start();
    await untilLife(capability, 'counter', 'probation');
    world.registryAnswer = { kind: 'programs', specs: [], refused: [] };
    const told = () => world.observations.map(({ detail }) => decodeStateDetail(detail).map(({ name }) => name));
    await until('it was told', () => told().some((names) => names.length === 1) || undefined);
    await world.pass(30_000);
    await until('nothing is left', () => (told().at(-1)?.length === 0 ? true : undefined));
    assert.deepEqual(world.observations.at(-1)?.generation, 0n);
    await world.letGo();
    const before = world.observations.length;
    await world.start();
    await until('the next process tells that there is none', () => world.observations.length > before || undefined);
    assert.deepEqual(told().at(-1), []);
  });
});
