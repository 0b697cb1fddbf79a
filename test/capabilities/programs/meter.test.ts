import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type MeterSubject, ProgramMeter } from '../../../src/capabilities/programs/meter.ts';
import type { ArtifactCounter, RevisionPlace } from '../../../src/capabilities/programs/ports.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';

const CHECK_MS = 30_000;
const counter = (key: string): ArtifactCounter => ({ map: 'counts', key, offset: 0, size: 8 });
const COUNTERS = {
  packets: counter('0'),
  violations: undefined,
  errors: counter('2'),
  others: { drops: counter('3') },
};

interface ModelProgram {
  /** Runs a second, and what one takes. */
  rate: number;
  costNs: number;
  runs: number;
  errors: bigint | undefined;
  broken: boolean;
}

/** A kernel that counts runs only while statistics are on, and time that passes only when somebody waits. */
class MeterModel {
  readonly programs = new Map<string, ModelProgram>();
  held = 0;
  heldMs = 0;
  refused = false;
  onSleep: (() => void) | undefined;
  #nowMs = 0;

  readonly clock = {
    now: () => 1_000_000 + this.#nowMs,
    monotonic: () => this.#nowMs,
    sleep: async (ms: number, signal?: AbortSignal) => {
      this.onSleep?.();
      signal?.throwIfAborted();
      this.pass(ms);
    },
  };

  readonly kernel = {
    stats: async ({ program }: RevisionPlace) => {
      const { runs, costNs } = this.#get(program);
      const functions = [{ name: 'count', runs: BigInt(runs), runTimeNs: BigInt(runs * costNs) }];
      return { functions, memoryBytes: 2048 };
    },
    readCounters: async ({ program }: RevisionPlace, counters: readonly ArtifactCounter[]) => {
      const { errors } = this.#get(program);
      const values: Record<string, bigint | undefined> = { '0': 1000n, '2': errors, '3': 7n };
      return counters.map(({ key }) => values[key]);
    },
    holdStatistics: () => {
      if (this.refused) throw new LonglineError('policy', 'statistics need CAP_SYS_ADMIN');
      this.held += 1;
      let done = false;
      return {
        [Symbol.dispose]: () => {
          assert.ok(!done, 'let go once');
          done = true;
          this.held -= 1;
        },
      };
    },
  };

  add(program: string, rate: number, costNs = 1000): ModelProgram {
    const made = { rate, costNs, runs: 0, errors: 0n, broken: false };
    this.programs.set(program, made);
    return made;
  }

  pass(ms: number): void {
    this.#nowMs += ms;
    if (this.held === 0) return;
    this.heldMs += ms;
    for (const program of this.programs.values()) program.runs += (program.rate * ms) / 1000;
  }

  #get(program: string): ModelProgram {
    const found = this.programs.get(program);
    if (found === undefined || found.broken) throw new LonglineError('not_found', `${program} is not loaded`);
    return found;
  }
}

function setUp() {
  const model = new MeterModel();
  const { kernel, clock } = model;
  const meter = new ProgramMeter({ kernel, clock, log: silentLogger, checkIntervalMs: CHECK_MS });
  const { signal } = new AbortController();
  return { model, meter, signal };
}

function subject(program: string, more: Partial<MeterSubject> & { readonly revision?: number } = {}): MeterSubject {
  const { revision = 1, ...rest } = more;
  const place = { program, revision };
  return { place, counters: COUNTERS, events: { events: 0, droppedEvents: 0 }, closely: false, ...rest };
}

async function figuresOf(meter: ProgramMeter, subjects: readonly MeterSubject[], signal: AbortSignal) {
  return (await meter.look(subjects, signal)).map((measurement) => {
    assert.equal(measurement.kind, 'measured');
    return measurement.kind === 'measured' ? measurement.figures : assert.fail();
  });
}

describe('meter of programs', () => {
  it('counts all runs of programs that run seldom, from before they are attached', async () => {
    const { model, meter, signal } = setUp();
    const program = model.add('seldom', 100, 5_000_000);
    await meter.begin(subject('seldom'), signal);
    model.pass(CHECK_MS);
    program.errors = 4n;
    const [figures] = await figuresOf(meter, [subject('seldom')], signal);
    assert.deepEqual(
      [figures!.runs, figures!.cpuPercent, figures!.latencyMs, figures!.countedMs, figures!.elapsedMs],
      [3000n, 50, 5, CHECK_MS, CHECK_MS],
    );
    assert.deepEqual([figures!.errors, figures!.errorsDelta, figures!.violations], [4n, 4n, 0n]);
    assert.deepEqual([figures!.packets, figures!.others, figures!.memoryKb], [1000n, { drops: 7n }, 2]);
    model.pass(CHECK_MS);
    const [next] = await figuresOf(meter, [subject('seldom')], signal);
    assert.deepEqual([next!.runs, next!.errorsDelta, next!.startMs], [3000n, 0n, figures!.endMs]);
  });

  it('counts runs of busy programs in windows, and everything else all the time', async () => {
    const { model, meter, signal } = setUp();
    const program = model.add('busy', 1_000_000);
    await meter.begin(subject('busy'), signal);
    model.pass(CHECK_MS);
    await figuresOf(meter, [subject('busy')], signal);
    assert.equal(model.held, 0, 'nobody pays between the windows');
    model.heldMs = 0;
    for (let look = 1; look <= 10; look++) {
      model.pass(CHECK_MS - meter.windowMs);
      program.errors = BigInt(look);
      const [figures] = await figuresOf(meter, [subject('busy')], signal);
      assert.deepEqual([figures!.countedMs, figures!.elapsedMs], [3_000, CHECK_MS]);
      assert.deepEqual([figures!.runs, figures!.cpuPercent, figures!.errorsDelta], [3_000_000n, 100, 1n]);
    }
    assert.equal(model.heldMs, 30_000, 'a tenth of the time');
    program.rate = 10;
    model.pass(CHECK_MS);
    await meter.look([subject('busy')], signal);
    assert.equal(model.held, 1, 'and all the time again once it costs next to nothing');
    model.pass(CHECK_MS);
    const [calm] = await figuresOf(meter, [subject('busy')], signal);
    assert.deepEqual([calm!.runs, calm!.countedMs], [300n, CHECK_MS]);
  });

  it('counts all runs of a program that is watched closely, however busy', async () => {
    const { model, meter, signal } = setUp();
    model.add('busy', 1_000_000);
    model.add('other', 1_000_000);
    const both = [subject('busy', { closely: true }), subject('other')];
    for (const one of both) await meter.begin(one, signal);
    for (let look = 0; look < 3; look++) {
      model.pass(CHECK_MS);
      for (const { countedMs } of await figuresOf(meter, both, signal)) assert.equal(countedMs, CHECK_MS);
    }
  });

  it('counts a new program beside busy ones at once', async () => {
    const { model, meter, signal } = setUp();
    model.add('busy', 1_000_000);
    await meter.look([subject('busy')], signal);
    model.pass(CHECK_MS);
    await meter.look([subject('busy')], signal);
    assert.equal(model.held, 0);
    model.add('new', 10);
    await meter.begin(subject('new'), signal);
    model.pass(1000);
    const [busy, fresh] = await figuresOf(meter, [subject('busy'), subject('new')], signal);
    assert.deepEqual(
      [busy!.countedMs, busy!.runs],
      [3_000, 3_000_000n],
      'from a reading that was taken while counting',
    );
    assert.deepEqual([fresh!.countedMs, fresh!.runs], [4_000, 40n]);
  });

  it('begins anew with another revision, and after it was forgotten', async () => {
    const { model, meter, signal } = setUp();
    model.add('drop', 10);
    const kinds = async (revision: number) =>
      (await meter.look([subject('drop', { revision })], signal)).map(({ kind }) => kind);
    assert.deepEqual(await kinds(1), ['begun']);
    assert.deepEqual(await kinds(1), ['measured']);
    assert.deepEqual(await kinds(2), ['begun'], 'counters of another revision are never compared');
    assert.deepEqual(await kinds(2), ['measured']);
    meter.forget('drop');
    assert.equal(model.held, 0);
    assert.deepEqual(await kinds(2), ['begun']);
  });

  it('tells of a program that cannot be read, and measures the others', async () => {
    const { model, meter, signal } = setUp();
    const broken = model.add('broken', 10);
    model.add('well', 10);
    const both = [subject('broken'), subject('well')];
    for (const one of both) await meter.begin(one, signal);
    broken.broken = true;
    model.pass(CHECK_MS);
    const [failed, measured] = await meter.look(both, signal);
    assert.ok(failed!.kind === 'failed' && failed!.error.reason === 'not_found');
    assert.equal(measured!.kind, 'measured');
    broken.broken = false;
    broken.errors = 9n;
    model.pass(CHECK_MS);
    const [back] = await figuresOf(meter, both, signal);
    assert.deepEqual([back!.elapsedMs, back!.errorsDelta], [2 * CHECK_MS, 9n], 'since it was read last');
  });

  it('says nothing of a counter that went backwards or was not there for a while', async () => {
    const { model, meter, signal } = setUp();
    const program = model.add('drop', 10);
    const deltas: (bigint | undefined)[] = [];
    for (const errors of [5n, 2n, undefined, 4n, 6n]) {
      program.errors = errors;
      const [measurement] = await meter.look([subject('drop')], signal);
      if (measurement?.kind === 'measured') deltas.push(measurement.figures.errorsDelta);
    }
    assert.deepEqual(deltas, [undefined, undefined, undefined, 2n]);
  });

  it('watches without CPU and latency where the kernel refuses statistics', async () => {
    const { model, meter, signal } = setUp();
    model.refused = true;
    const program = model.add('drop', 10);
    await meter.begin(subject('drop'), signal);
    program.errors = 3n;
    model.pass(CHECK_MS);
    const [figures] = await figuresOf(meter, [subject('drop')], signal);
    assert.deepEqual([figures!.errorsDelta, figures!.countedMs, figures!.elapsedMs], [3n, 0, CHECK_MS]);
  });

  it('lets go of statistics without programs, when it ends, and when a look is broken off', async () => {
    const { model, meter, signal } = setUp();
    model.add('busy', 1_000_000);
    await meter.begin(subject('busy'), signal);
    await meter.look([], signal);
    assert.equal(model.held, 0);
    const stop = new AbortController();
    stop.abort(new LonglineError('cancelled', 'the agent ends'));
    await assert.rejects(meter.look([subject('busy')], stop.signal), { reason: 'cancelled' });
    assert.equal(model.held, 0);
    await meter.look([subject('busy')], signal);
    model.pass(CHECK_MS);
    await meter.look([subject('busy')], signal);
    assert.equal(model.held, 0, 'it is counted in windows');
    const broken = new AbortController();
    model.onSleep = () => broken.abort(new LonglineError('cancelled', 'in the middle of a window'));
    await assert.rejects(meter.look([subject('busy')], broken.signal), { reason: 'cancelled' });
    model.onSleep = undefined;
    assert.equal(model.held, 0);
    await meter.begin(subject('busy'), signal);
    assert.equal(model.held, 1);
    meter[Symbol.dispose]();
    meter[Symbol.dispose]();
    assert.equal(model.held, 0);
  });
});
