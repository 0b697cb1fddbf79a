import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { placesOf } from '../../../src/capabilities/programs/place.ts';
import {
  missingPlaces,
  NOTHING,
  nextStage,
  type PlannedRevision,
  type Step,
  type Wanted,
} from '../../../src/capabilities/programs/plan.ts';
import type {
  FoundLink,
  FoundProgram,
  FunctionRequest,
  TypeSupport,
} from '../../../src/capabilities/programs/ports.ts';
import { parseAttach } from '../../../src/core/programs/attach-point.ts';

const TYPES: readonly TypeSupport[] = [
  { type: 'xdp', missing: undefined, atomic: true },
  { type: 'tc', missing: undefined, atomic: true },
  { type: 'tracepoint', missing: undefined, atomic: false },
];

const TYPE_OF = { xdp: 'xdp', tc: 'tc', tracepoint: 'tracepoint' } as const;

/** A revision of functions by name, each with places as text. */
function revision(number: number, functions: Readonly<Record<string, readonly string[]>>): PlannedRevision {
  const requests: FunctionRequest[] = Object.entries(functions).map(([name, texts]) => {
    const points = texts.map((text) => {
      const read = parseAttach(text);
      assert.ok(read.ok);
      return read.request.point;
    });
    const type = TYPE_OF[(points[0]?.kind ?? 'xdp') as keyof typeof TYPE_OF];
    return { name, type, points };
  });
  return { number, functions: Object.keys(functions), places: placesOf(requests, number, TYPES) };
}

/** A kernel that does what plans say. */
class Model {
  readonly revisions = new Map<number, readonly string[]>();
  readonly links = new Map<string, { programId: number; gone: boolean; point: string }>();
  readonly absent = new Set<string>();

  found(): FoundProgram {
    const revisions = [...this.revisions].map(([number, functions]) => ({
      place: { program: 'p', revision: number },
      functions: functions.map((name) => ({ name, id: idOf(number, name, functions) })),
      maps: [],
    }));
    const links: FoundLink[] = [...this.links].map(([slot, { programId, gone }]) => ({
      program: 'p',
      slot,
      linkId: 1,
      programId,
      gone,
    }));
    return { program: 'p', revisions, links };
  }

  /** False if it can't be had. */
  perform(step: Step): boolean {
    switch (step.kind) {
      case 'load':
        this.revisions.set(step.revision.number, step.revision.functions);
        return true;
      case 'attach':
      case 'replace': {
        const {
          place,
          revision: { number, functions },
        } = step;
        const point = JSON.stringify(place.point);
        if (this.absent.has(point)) return false;
        const there = this.links.get(place.slot);
        if (step.kind === 'replace') assert.ok(there !== undefined && !there.gone, 'only what is there is replaced');
        for (const [slot, link] of this.links) {
          const clash = place.type === 'xdp' && slot !== place.slot && !link.gone && link.point.includes('"xdp"');
          assert.ok(!clash || !sameInterface(link.point, point), 'an interface has one XDP function');
        }
        this.links.set(place.slot, { programId: idOf(number, place.function, functions), gone: false, point });
        return true;
      }
      case 'detach':
        this.links.delete(step.slot);
        return true;
      case 'unload':
        this.revisions.delete(step.revision);
        return true;
    }
  }

  /** Carries plans out until there is nothing to do. */
  reach(wanted: Wanted, seen: (step: Step) => void = () => undefined): number {
    const failed = new Set<string>();
    for (let stages = 0; stages < 20; stages++) {
      const steps = nextStage(wanted, this.found(), failed);
      if (steps.length === 0) return stages;
      for (const step of steps) {
        const done = this.perform(step);
        seen(step);
        if (!done && (step.kind === 'attach' || step.kind === 'replace')) failed.add(step.place.slot);
      }
    }
    return assert.fail('the plan has no end');
  }

  runningAt(text: string): number {
    const read = parseAttach(text);
    assert.ok(read.ok);
    const point = JSON.stringify(read.request.point);
    return [...this.links.values()].filter((link) => link.point === point && !link.gone).length;
  }
}

function idOf(number: number, name: string, functions: readonly string[]): number {
  return number * 100 + functions.indexOf(name) + 1;
}

function sameInterface(one: string, other: string): boolean {
  return JSON.parse(one).interface === JSON.parse(other).interface;
}

const wanting = (run: PlannedRevision, ...keep: readonly PlannedRevision[]): Wanted => ({
  run,
  ready: undefined,
  keep,
});

describe('the plan of a program', () => {
  it('loads, attaches, and has nothing more to do', () => {
    const model = new Model();
    const one = revision(1, { count: ['xdp:eth0', 'xdp:eth1'], look: ['tracepoint:sched:sched_switch'] });
    model.reach(wanting(one));
    assert.deepEqual(missingPlaces(one, model.found()), []);
    assert.deepEqual(nextStage(wanting(one), model.found()), []);
  });

  it('hands places over without a gap, and attaches beside where that can not be done', () => {
    const model = new Model();
    const one = revision(1, { count: ['xdp:eth0'], look: ['tracepoint:sched:sched_switch'] });
    const two = revision(2, { other_name: ['xdp:eth0'], look: ['tracepoint:sched:sched_switch'] });
    model.reach(wanting(one));
    const kinds: string[] = [];
    model.reach(wanting(two, one), (step) => {
      kinds.push(step.kind);
      assert.equal(model.runningAt('xdp:eth0'), 1);
      assert.ok(model.runningAt('tracepoint:sched:sched_switch') >= 1);
    });
    assert.deepEqual(kinds, ['load', 'replace', 'attach', 'detach']);
    assert.deepEqual([...model.revisions.keys()], [1, 2]);
    model.reach(wanting(two));
    assert.deepEqual([...model.revisions.keys()], [2]);
  });

  it('makes way where an interface takes one function only', () => {
    const model = new Model();
    const one = revision(1, { count: ['xdp:eth0'] });
    const two = revision(2, { count: ['xdp:eth0:generic'] });
    model.reach(wanting(one));
    model.reach(wanting(two, one));
    assert.deepEqual([model.runningAt('xdp:eth0'), model.runningAt('xdp:eth0:generic')], [0, 1]);
    model.reach(wanting(one, two));
    assert.deepEqual([model.runningAt('xdp:eth0'), model.runningAt('xdp:eth0:generic')], [1, 0]);
  });

  it('takes away what nobody knows any more, and all of it if nothing is wanted', () => {
    const model = new Model();
    model.reach(wanting(revision(7, { left: ['tc:eth0:ingress'] })));
    const one = revision(1, { count: ['tc:eth0:ingress'] });
    model.reach(wanting(one));
    assert.deepEqual([...model.revisions.keys()], [1]);
    assert.equal(model.links.size, 1);
    model.reach(NOTHING);
    assert.deepEqual([model.revisions.size, model.links.size], [0, 0]);
  });

  it('leaves what is right alone, whatever else is wrong', () => {
    const model = new Model();
    const one = revision(1, { count: ['xdp:eth0', 'xdp:eth1'] });
    model.reach(wanting(one));
    model.links.set(one.places[1]!.slot, { ...model.links.get(one.places[1]!.slot)!, gone: true });
    const steps: Step[] = [];
    model.reach(wanting(one), (step) => steps.push(step));
    assert.deepEqual(
      steps.map(({ kind }) => kind),
      ['detach', 'attach'],
    );
    assert.ok(steps.every((step) => !('place' in step) || step.place.slot === one.places[1]!.slot));
  });

  it('comes from anything to anything, never without what it is to run once that is there', () => {
    const place = fc.constantFrom(
      'xdp:eth0',
      'xdp:eth0:generic',
      'xdp:eth1',
      'tc:eth0:ingress',
      'tc:eth0:egress',
      'tracepoint:a:b',
    );
    const function_ = (name: string) => fc.tuple(fc.constant(name), fc.uniqueArray(place, { maxLength: 3 }));
    const functions = fc.tuple(function_('f'), function_('g')).map(([f, g]) => {
      // One function has places of one kind, and an interface one XDP function.
      const kindOf = (text: string) => text.split(':')[0];
      const own = (texts: readonly string[]) => texts.filter((text) => kindOf(text) === kindOf(texts[0]!));
      const taken = new Set<string>();
      const once = (texts: readonly string[]) =>
        own(texts).filter((text) => {
          const key = kindOf(text) === 'xdp' ? text.split(':').slice(0, 2).join(':') : text;
          if (taken.has(key)) return false;
          taken.add(key);
          return true;
        });
      return { [f[0]]: once(f[1]), [g[0]]: once(g[1]) };
    });
    const lives = fc.array(fc.record({ functions, keeps: fc.boolean(), breaks: fc.nat(3) }), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(lives, (all) => {
        const model = new Model();
        let before: PlannedRevision | undefined;
        for (const [index, { functions: wanted, keeps, breaks }] of all.entries()) {
          const next = revision(index + 1, wanted);
          const links = [...model.links];
          if (breaks === 1 && links[0] !== undefined) model.links.set(links[0][0], { ...links[0][1], gone: true });
          if (breaks === 2) model.revisions.delete(index);
          if (breaks === 3) model.links.clear();
          const stays = new Set<string>();
          model.reach(before !== undefined && keeps ? wanting(next, before) : wanting(next), () => {
            const { links: now, revisions } = model.found();
            const found = revisions.find((one) => one.place.revision === next.number);
            const right = now.filter(
              ({ programId, gone }) => !gone && found?.functions.some(({ id }) => id === programId),
            );
            for (const slot of stays)
              assert.ok(
                right.some((link) => link.slot === slot),
                `${slot} was left`,
              );
            for (const { slot } of right) stays.add(slot);
          });
          assert.deepEqual(missingPlaces(next, model.found()), []);
          assert.equal(model.links.size, next.places.length);
          before = next;
        }
      }),
      { numRuns: 500 },
    );
  });
});
