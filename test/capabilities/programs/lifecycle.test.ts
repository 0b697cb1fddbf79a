import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  advance,
  ascend,
  BORN,
  canHappen,
  isOver,
  isRunning,
  type Life,
  type LifeEvent,
  type LifeKind,
  TRANSITIONS,
} from '../../../src/capabilities/programs/lifecycle.ts';
import { PROGRAM_STATES } from '../../../src/core/programs/program-state.ts';

const EVENTS = [...new Set(Object.values(TRANSITIONS).flatMap((row) => Object.keys(row)))] as LifeEvent[];

/** A life after whatever of these could happen. */
function live(events: readonly LifeEvent[]): Life {
  return events.reduce((life, event) => (canHappen(life, event) ? advance(life, event) : life), BORN);
}

/** States that can be come to from the first, without passing through some. */
function reachable(without: readonly LifeKind[]): ReadonlySet<LifeKind> {
  const seen = new Set<LifeKind>();
  const waiting: Life[] = [BORN];
  for (let life = waiting.pop(); life !== undefined; life = waiting.pop()) {
    if (seen.has(life.kind) || without.includes(life.kind)) continue;
    seen.add(life.kind);
    for (const event of Object.keys(TRANSITIONS[life.kind]) as LifeEvent[]) waiting.push(advance(life, event));
  }
  return seen;
}

const anyEvents = fc.array(fc.constantFrom(...EVENTS), { maxLength: 60 });

describe('the life of a program', () => {
  it('has the states of the contract, and comes to all of them', () => {
    assert.deepEqual(Object.keys(TRANSITIONS).sort(), [...PROGRAM_STATES].sort());
    assert.deepEqual([...reachable([])].sort(), [...PROGRAM_STATES].sort());
  });

  it('runs nothing that was not fetched, verified and loaded before', () => {
    for (const needed of ['fetched', 'verified', 'loaded'] as const) {
      const come = reachable([needed]);
      for (const kind of ['attached', 'probation', 'active', 'updating', 'rolling_back', 'detached'] as const) {
        assert.ok(!come.has(kind), `${kind} is come to without ${needed}`);
      }
    }
    assert.ok(!reachable(['attached']).has('active'));
    assert.ok(!reachable(['attached']).has('probation'));
  });

  it('never gets stuck: from anywhere it can end, and begin anew', () => {
    fc.assert(
      fc.property(anyEvents, (events) => {
        let life = live(events);
        for (const event of ['expire', 'detached', 'gone'] as const)
          if (canHappen(life, event)) life = advance(life, event);
        assert.ok(isOver(life), `${JSON.stringify(live(events))} ends as ${JSON.stringify(life)}`);
        assert.deepEqual(advance(life, 'begin'), BORN);
      }),
    );
  });

  it('tells what can not happen by name, and changes nothing then', () => {
    fc.assert(
      fc.property(anyEvents, fc.constantFrom(...EVENTS), (events, event) => {
        const life = live(events);
        if (canHappen(life, event)) return;
        assert.throws(() => advance(life, event), {
          reason: 'internal',
          message: new RegExp(`${life.kind}.*"${event}"`),
        });
      }),
    );
  });

  it('is what it was before if an update comes to nothing', () => {
    for (const kind of ['attached', 'probation', 'active'] as const) {
      assert.deepEqual(advance(advance({ kind }, 'update'), 'gave_up'), { kind });
    }
  });

  it('comes up by all steps in between when more is found than was known', () => {
    fc.assert(
      fc.property(anyEvents, fc.constantFrom('fetched', 'verified', 'loaded', 'attached'), (events, target) => {
        const before = live(events);
        const after = ascend(before, target);
        const order = ['discovered', 'fetched', 'verified', 'loaded', 'attached'];
        const [from, to] = [order.indexOf(before.kind), order.indexOf(target)];
        if (from >= 0) assert.equal(after.kind, order[Math.max(from, to)]);
        else if (target !== 'attached') assert.deepEqual(after, before);
        else assert.ok(after.kind === 'attached' || !canHappen(before, 'attached'));
      }),
    );
  });

  it('runs in the states that say so', () => {
    const running = PROGRAM_STATES.filter((kind) => isRunning({ kind } as Life));
    assert.deepEqual(running, ['attached', 'probation', 'active', 'updating', 'rolling_back']);
  });
});
