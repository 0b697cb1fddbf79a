// What becomes of a rollout, step by step, with agents that do what a test says.
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import {
  abortRollout,
  pauseRollout,
  removeAssignment,
  resumeRollout,
} from '../../../src/controller/rollouts/assignment-change.ts';
import type { LonglineError } from '../../../src/core/errors.ts';
import { type AskedInit, type Fate, PAUSE_MS, RolloutModel, TIMEOUT_MS } from './rollout-model.ts';

const IDS = ['a', 'b', 'c', 'd'];

describe('a rollout', () => {
  let model: RolloutModel;
  beforeEach(() => {
    model = new RolloutModel(IDS);
  });

  /** All agents that are there do what they are asked, at this instant. */
  const turn = (): void => {
    for (let round = 0; round < 12; round++) {
      model.drive();
      for (const id of model.agents.keys()) {
        model.apply(id);
        model.tell(id);
      }
    }
    while (model.drive());
  };
  const pass = (ms: number): void => {
    model.pass(ms);
    turn();
  };
  const put = (init: AskedInit): string => {
    const rollout = model.put(init);
    turn();
    return rollout?.id ?? '';
  };
  /** Something that everybody has. */
  const settled = (): void => {
    put({ artifact: 'old' });
    pass(PAUSE_MS);
    assert.equal(model.latest!.phase, 'done');
  };
  const fate = (...fates: readonly (readonly [string, Fate])[]): void => {
    const known = new Map(fates);
    model.fate = (id, artifact) => (artifact === 'old' ? 'well' : (known.get(id) ?? 'well'));
  };
  const at = () => `${model.latest!.phase} ${model.latest!.wave}/${model.latest!.waves}`;
  const running = (artifact: string) => IDS.filter((id) => model.runs(id) === artifact);
  const steps = () => new Map(model.rows().map(({ agentId, step }) => [agentId, step]));
  const first = () => model.rows().find(({ wave }) => wave === 1)!.agentId;
  const refused = (work: () => unknown): string => {
    try {
      work();
    } catch (error) {
      return (error as LonglineError).message;
    }
    return '';
  };

  it('of nobody is over at once', () => {
    put({ artifact: 'new', labels: { tier: 'none' }, waves: [5, 100] });
    assert.equal(at(), 'done 1/1');
  });

  it('judges an agent also after its wave, by the agents that were reached', () => {
    settled();
    put({ artifact: 'new', waves: [50, 100], maxFailedPercent: 50 });
    const [one, other] = running('new');
    assert.equal(at(), 'watching 1/2');
    fate([one!, 'rolls_back']);
    pass(1);
    assert.deepEqual([at(), steps().get(one!)], ['watching 1/2', 'failed'], 'one of two may');
    fate([one!, 'rolls_back'], [other!, 'fails']);
    pass(1);
    assert.deepEqual([at(), running('old')], ['rolled_back 1/2', IDS]);
    assert.deepEqual([...steps().values()], ['reverted', 'reverted', 'reverted', 'reverted']);
    assert.equal(model.rows().filter(({ reason }) => reason !== '').length, 2, 'why they failed is kept');
  });

  it('takes back what it said of an agent that comes right after all', () => {
    settled();
    fate(['a', 'fails'], ['b', 'hangs']);
    put({ artifact: 'new', maxFailedPercent: 30 });
    assert.equal(steps().get('a'), 'failed');
    fate(['b', 'hangs']);
    pass(1);
    assert.deepEqual([steps().get('a'), at()], ['current', 'running 1/1']);
    fate();
    pass(1);
    pass(PAUSE_MS);
    assert.equal(at(), 'done 1/1');
  });

  it('lets all fail if that is asked for', () => {
    fate(...IDS.map((id) => [id, 'fails'] as const));
    put({ artifact: 'new', maxFailedPercent: 100 });
    pass(PAUSE_MS);
    assert.equal(at(), 'done 1/1');
  });

  it('stays as it is when it is halted and that is asked for, until somebody decides', () => {
    settled();
    fate([...IDS].map((id) => [id, 'fails'] as const)[0]!, ['b', 'fails'], ['c', 'fails'], ['d', 'fails']);
    put({ artifact: 'new', waves: [50, 100], keepOnHalt: true });
    assert.deepEqual([at(), running('new').length], ['halted 1/2', 2]);
    pass(100 * TIMEOUT_MS);
    assert.deepEqual([at(), running('new').length], ['halted 1/2', 2]);
    assert.match(
      refused(() => pauseRollout(model.rollout!)),
      /was halted and can't be paused; abort it/,
    );
    assert.match(
      refused(() => resumeRollout(model.rollout!, [], [], 0)),
      /was halted and can't be resumed/,
    );
    fate();
    turn();
    assert.deepEqual([at(), steps().get(running('new')[0]!)], ['halted 1/2', 'current'], 'it is told how they fare');
    assert.notEqual(put({ artifact: 'new', waves: [50, 100], keepOnHalt: true }), '', 'the same once more');
    for (let wave = 0; wave < 2; wave++) pass(PAUSE_MS);
    assert.deepEqual([at(), running('new')], ['done 2/2', IDS]);
  });

  it('does not wait for agents that are gone, and forgets no failure', () => {
    fate(['a', 'hangs'], ['b', 'fails']);
    put({ artifact: 'new', maxFailedPercent: 50 });
    assert.equal(at(), 'running 1/1');
    for (const id of ['a', 'b']) model.agents.get(id)!.valid = false;
    turn();
    assert.deepEqual([at(), [...steps().keys()]], ['watching 1/1', ['b', 'c', 'd']]);
    fate(['b', 'fails'], ['c', 'fails']);
    turn();
    assert.equal(model.latest!.phase, 'rolled_back');
  });

  it('begins no wave while it is paused, and is halted even so', () => {
    settled();
    put({ artifact: 'new', waves: [25, 100] });
    model.change(pauseRollout(model.rollout!)!);
    assert.equal(pauseRollout(model.rollout!), undefined, 'it is paused already');
    pass(100 * PAUSE_MS);
    assert.deepEqual([at(), running('new').length], ['watching 1/2', 1]);
    fate([first(), 'rolls_back']);
    turn();
    assert.deepEqual([at(), running('old')], ['rolled_back 1/2', IDS]);
    assert.match(
      refused(() => pauseRollout(model.latest!)),
      /is over \(rolled_back\)/,
    );
  });

  it('goes on when it is resumed, once for a pause and a wave that waits', () => {
    put({ artifact: 'new', waves: [25, 100], manual: true });
    assert.match(
      refused(() => resumeRollout(model.rollout!, [], [], 0)),
      /is not paused/,
    );
    model.change(pauseRollout(model.rollout!)!);
    pass(PAUSE_MS);
    assert.equal(at(), 'watching 1/2', 'it is paused before it waits');
    model.change(resumeRollout(model.rollout!, model.rows(), model.records(), model.nowMs));
    turn();
    assert.equal(at(), 'waiting 1/2');
    assert.equal(pauseRollout(model.rollout!), undefined, 'it waits anyway');
    model.change(resumeRollout(model.rollout!, model.rows(), model.records(), model.nowMs));
    turn();
    pass(PAUSE_MS);
    assert.equal(at(), 'done 2/2', 'nobody has to be asked after the last');
  });

  it('goes back when it is aborted, and waits for nobody longer than it may take', () => {
    settled();
    put({ artifact: 'new', waves: [50, 100] });
    const [gone, stuck] = running('new');
    model.setOnline(gone!, false);
    model.fate = (id) => (id === stuck ? 'hangs' : 'well');
    const change = abortRollout(model.rollout!, model.rows(), 'enough', model.nowMs)!;
    model.change(change);
    assert.equal(abortRollout(model.rollout!, model.rows(), 'again', model.nowMs), undefined, 'it goes back already');
    assert.match(
      refused(() => pauseRollout(model.rollout!)),
      /goes back and can't be paused/,
    );
    turn();
    assert.equal(at(), 'rolling_back 1/2');
    pass(TIMEOUT_MS);
    assert.deepEqual([at(), steps().get(gone!), steps().get(stuck!)], ['rolled_back 1/2', 'offline', 'failed']);
    assert.match(model.rows().find(({ agentId }) => agentId === stuck)!.reason, /what it had before is not back/);
    model.setOnline(gone!, true);
    turn();
    assert.equal(model.runs(gone!), 'old', 'it gets it when it comes');
  });

  it('takes no harm from a clock that jumps', () => {
    settled();
    fate(['a', 'hangs'], ['b', 'hangs'], ['c', 'hangs'], ['d', 'hangs']);
    put({ artifact: 'new', waves: [50, 100] });
    model.nowMs -= 24 * 3_600_000;
    turn();
    assert.equal(at(), 'running 1/2');
    pass(TIMEOUT_MS);
    assert.deepEqual([at(), running('old')], ['rolled_back 1/2', IDS], 'a day back is not a day longer');
    fate();
    put({ artifact: 'next', waves: [50, 100] });
    model.nowMs -= 24 * 3_600_000;
    turn();
    pass(PAUSE_MS - 1);
    assert.equal(at(), 'watching 1/2');
    pass(1);
    assert.equal(at(), 'watching 2/2');
  });

  it('counts neither time nor silence while nobody could be heard', () => {
    put({ artifact: 'new', waves: [50, 100] });
    for (const id of IDS) model.setOnline(id, false);
    model.restart(100 * TIMEOUT_MS);
    model.drive();
    assert.equal(at(), 'watching 1/2', 'it is watched anew');
    for (const id of IDS) model.setOnline(id, true);
    pass(PAUSE_MS - 1);
    assert.equal(at(), 'watching 1/2');
    pass(1);
    assert.equal(at(), 'watching 2/2');
  });

  it('gives who comes late its own time, and has nobody wait for that', () => {
    fate(['a', 'hangs']);
    model.setOnline('a', false);
    put({ artifact: 'new', maxFailedPercent: 10 });
    model.pass(TIMEOUT_MS - 1);
    model.setOnline('a', true);
    pass(1);
    assert.deepEqual([at(), steps().get('a')], ['watching 1/1', 'offline']);
    pass(PAUSE_MS);
    assert.equal(at(), 'done 1/1');
  });

  it('ends with its assignment, which goes once nobody has the program', () => {
    settled();
    put({ artifact: 'new', waves: [25, 100] });
    model.setOnline('a', false);
    model.change(removeAssignment(model.state!, model.nowMs)!);
    assert.equal(removeAssignment(model.state!, model.nowMs), undefined, 'it goes already');
    assert.match(
      refused(() => model.put({ artifact: 'next' })),
      /is being removed/,
    );
    turn();
    assert.deepEqual(
      [model.latest!.phase, [...model.agents.values()].filter(({ delivery }) => delivery).length],
      ['superseded', 1],
    );
    model.setOnline('a', true);
    turn();
    assert.equal(model.state, undefined);
  });

  it('is not begun where nothing differs', () => {
    settled();
    assert.equal(put({ artifact: 'old' }), '');
    assert.equal(put({ artifact: 'old', waves: [10, 100] }), '', 'how it is rolled out is no change');
    const id = put({ artifact: 'new', waves: [50, 100] });
    assert.equal(put({ artifact: 'new', waves: [50, 100] }), '', 'it is under way');
    assert.notEqual(put({ artifact: 'new', waves: [25, 100] }), '', 'it goes on otherwise');
    assert.equal(model.rollouts.get(id)!.phase, 'superseded');
    assert.equal(running('new').length, 1, 'it begins anew');
    const back = put({ artifact: 'old' });
    assert.deepEqual([back === '', at(), running('old')], [false, 'watching 1/1', IDS], 'who had it goes back at once');
    assert.equal(model.rows().length, 1);
  });
});
