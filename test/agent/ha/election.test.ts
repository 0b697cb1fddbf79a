// What an election says of itself: terms and why they end, and what keeps it from its lock.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Election, type Term } from '../../../src/agent/ha/election.ts';
import { viewOf } from '../../../src/agent/ha/replica.ts';
import { electionCheck } from '../../../src/agent/health/election-check.ts';
import { electionCollector } from '../../../src/agent/metrics/election-figures.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import type { LeaderLock, LockAnswer } from '../../../src/core/leader-lock.ts';
import { type Logger, silentLogger } from '../../../src/core/logger.ts';
import type { family } from '../../../src/core/metrics/metric.ts';
import { ELECTION_METRICS } from '../../../src/telemetry/metrics/agent-names.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';

const TTL_MS = 10_000;
const RENEW_MS = 3_000;

function setUp() {
  const clock = new ManualClock();
  const lines: string[] = [];
  const log: Logger = {
    ...silentLogger,
    info: (message) => void lines.push(message),
    warn: (message) => void lines.push(message),
  };
  const says = {
    acquire: async (): Promise<LockAnswer> => ({ kind: 'acquired', epoch: 1n }),
    renew: async (): Promise<boolean> => true,
    keep: async (_epoch: bigint): Promise<void> => undefined,
    release: async (_epoch: bigint): Promise<void> => undefined,
  };
  let heard = 0;
  const lock: LeaderLock = {
    name: 'lock',
    expires: true,
    acquire: () => says.acquire(),
    renew: () => says.renew(),
    release: (epoch) => says.release(epoch),
    [Symbol.asyncDispose]: async () => undefined,
  };
  const election = new Election({
    ...{ lock, clock, log, ttlMs: TTL_MS, renewMs: RENEW_MS, retryMs: 500 },
    epochs: { highest: 0n, keep: (epoch) => says.keep(epoch) },
    elapsed: clock.monotonic,
    onHeard: () => {
      heard += 1;
    },
  });
  const view = () => viewOf(election, 'me', 'redis');
  /** Time passes in steps that a timer would see. */
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 100) {
      clock.advance(100);
      await new Promise(setImmediate);
    }
  };
  return { clock, election, lines, pass, says, view, heard: () => heard };
}

function figuresOf(election: Election, now: () => number): Record<string, number> {
  const families = [...(electionCollector('a', { election, now }).collect() as Iterable<ReturnType<typeof family>>)];
  return Object.fromEntries(
    families.flatMap(({ definition, samples }) =>
      samples.map(({ labels, value }) => [[definition.name, ...labels.slice(1)].join(' '), value as number]),
    ),
  );
}

const ended = (election: Election) => Object.fromEntries(election.tally.ended);

describe('an election', () => {
  it('counts terms, and why they end: let go of, lapsed, taken', async () => {
    const { election, pass, says, heard } = setUp();
    const signal = new AbortController().signal;
    let epoch = 1n;
    says.acquire = async () => ({ kind: 'acquired', epoch });
    const released: Term = await election.lead(signal);
    await released.release();
    assert.deepEqual(ended(election), { released: 1, lapsed: 0, taken: 0 });
    epoch = 2n;
    const lapsing = await election.lead(signal);
    says.renew = async () => Promise.reject(new LonglineError('unavailable', 'the lock is away'));
    await pass(TTL_MS);
    assert.equal(lapsing.signal.aborted, true);
    await lapsing.release();
    epoch = 3n;
    const taken = await election.lead(signal);
    says.renew = async () => false;
    await pass(RENEW_MS + 100);
    assert.equal(taken.signal.aborted, true);
    assert.deepEqual(ended(election), { released: 1, lapsed: 1, taken: 1 });
    assert.equal(election.tally.won, 3);
    assert.ok(election.tally.errors.get('unavailable')! >= 3);
    assert.ok(heard() >= 6, 'whoever wants to know hears of each change');
  });

  it('tells how long its lock can not be asked, and is well again once it can', async () => {
    const { clock, election, lines, pass, says, view } = setUp();
    says.acquire = async () => Promise.reject(new LonglineError('unavailable', 'Redis is away'));
    const stop = new AbortController();
    const leading = election.lead(stop.signal);
    assert.equal(view().asked, false);
    await pass(2_000);
    const check = electionCheck(view, TTL_MS);
    const degraded = await check.look();
    assert.equal(degraded.state, 'degraded');
    assert.match(
      degraded.reason,
      /^stands by for 2s; who leads is not known; for \S+ the lock can't be asked: Redis is away$/,
    );
    assert.match(degraded.mend, /ha\.redis_url/);
    await pass(TTL_MS);
    assert.equal((await check.look()).state, 'failed', 'nobody can take over');
    const figures = figuresOf(election, clock.now);
    assert.ok(figures[`${ELECTION_METRICS.errors.name} unavailable`]! > 10);
    assert.equal(figures[`${ELECTION_METRICS.errors.name} late`], 0, 'also the reasons that never came');
    assert.equal(figures[ELECTION_METRICS.answered.name], undefined, 'it never answered');
    says.acquire = async () => ({ kind: 'taken', holder: 'other', epoch: 4n });
    await pass(1_000);
    assert.deepEqual(await check.look(), { state: 'ok', reason: 'stands by for 13s; other leads, epoch 4', mend: '' });
    const well = figuresOf(election, clock.now);
    assert.equal(well[ELECTION_METRICS.epoch.name], 4);
    assert.ok(clock.now() / 1000 - well[ELECTION_METRICS.answered.name]! <= 0.5);
    assert.equal(lines.filter((line) => /can be asked again/.test(line)).length, 1);
    stop.abort(new Error('over'));
    await assert.rejects(leading, /over/);
  });

  it('says once that an epoch can not be kept, however often the lock itself is to be had', async () => {
    const { election, lines, pass, says, view } = setUp();
    says.keep = async () => Promise.reject(new LonglineError('limit', 'the disk is full'));
    const stop = new AbortController();
    const leading = election.lead(stop.signal);
    await pass(5_000);
    assert.deepEqual(lines, ['the election goes on as soon as its lock can be asked']);
    assert.ok(view().problemMs > 4_000, `${view().problemMs}`);
    assert.equal(view().problem, 'the disk is full');
    stop.abort(new Error('over'));
    await assert.rejects(leading, /over/);
  });

  it('holds no lock for a disk that hangs, and asks on', async () => {
    const { election, pass, says, view } = setUp();
    const released: bigint[] = [];
    says.release = async (epoch) => void released.push(epoch);
    says.keep = () => new Promise(() => undefined);
    says.acquire = async () => ({ kind: 'acquired', epoch: 3n });
    const leading = election.lead(new AbortController().signal);
    await pass(11_000);
    assert.deepEqual(released, [3n]);
    assert.equal(view().problem, 'the data folder gave no answer within 10000 ms');
    says.acquire = async () => ({ kind: 'taken', holder: 'other', epoch: 4n });
    await pass(22_000);
    assert.equal(view().leader, 'other');
    says.keep = async () => undefined;
    says.acquire = async () => ({ kind: 'acquired', epoch: 5n });
    await pass(12_000);
    const term = await leading;
    assert.equal(term.epoch, 5n);
    await term.release();
  });

  it('neither leads with nor remembers an epoch that no later one could follow', async () => {
    const { election, pass, says, view } = setUp();
    const kept: bigint[] = [];
    says.keep = async (epoch) => void kept.push(epoch);
    const released: bigint[] = [];
    says.release = async (epoch) => void released.push(epoch);
    says.acquire = async () => ({ kind: 'taken', holder: 'other', epoch: 2n ** 60n });
    const leading = election.lead(new AbortController().signal);
    await pass(1_000);
    assert.match(view().problem, /^lock says that epoch 1152921504606846976 was, and none above 9007199254740991 can/);
    says.acquire = async () => ({ kind: 'acquired', epoch: 2n ** 53n });
    await pass(1_000);
    assert.match(view().problem, /epoch 9007199254740992 was/);
    assert.equal(released[0], 2n ** 53n);
    says.acquire = async () => ({ kind: 'acquired', epoch: 7n });
    await pass(1_000);
    const term = await leading;
    assert.deepEqual([term.epoch, view().epoch, kept], [7n, 7n, [7n]]);
    await term.release();
  });

  it('is degraded only for a leader whose lock is away: it holds it', async () => {
    const { election, pass, says, view } = setUp();
    await election.lead(new AbortController().signal);
    const check = electionCheck(view, 0);
    assert.deepEqual(await check.look(), { state: 'ok', reason: 'leads for 0ms, epoch 1', mend: '' });
    says.renew = async () => Promise.reject(new LonglineError('late', 'no answer'));
    await pass(RENEW_MS + 500);
    assert.equal((await check.look()).state, 'degraded');
    assert.equal(view().role, 'leader');
  });
});
