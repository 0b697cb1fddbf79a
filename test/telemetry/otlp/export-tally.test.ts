import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { silentLogger } from '../../../src/core/logger.ts';
import { ExportTally } from '../../../src/telemetry/otlp/export-tally.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';

function tallied() {
  const told: unknown[] = [];
  const clock = new ManualClock();
  const log = { ...silentLogger, warn: (message: string, fields?: object) => void told.push([message, fields]) };
  return { told, clock, tally: new ExportTally(clock, log, { what: 'spans', lost: 'spans are lost' }) };
}

it('holds no more than it may and loses count of none, in whatever order they come, leave and end', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('come' as const), count: fc.nat(20) }),
    fc.record({ kind: fc.constant('leave' as const), count: fc.nat(20) }),
    fc.record({ kind: fc.constant('end' as const), taken: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), fc.integer({ min: 1, max: 30 }), (steps, most) => {
      const { tally } = tallied();
      const model = { waiting: 0, ended: 0, dropped: 0, sent: 0, failed: 0 };
      const under: { readonly count: number; readonly end: (error: Error | undefined) => void }[] = [];
      for (const one of steps) {
        if (one.kind === 'come') {
          for (let i = 0; i < one.count; i++) {
            const isTaken = tally.admit(most);
            assert.equal(isTaken, model.waiting < most);
            model.ended += 1;
            if (isTaken) model.waiting += 1;
            else model.dropped += 1;
          }
        } else if (one.kind === 'leave') {
          const count = Math.min(one.count, model.waiting);
          model.waiting -= count;
          under.push({ count, end: tally.departs(count) });
        } else {
          const batch = under.shift();
          batch?.end(one.taken ? undefined : new Error('refused'));
          model[one.taken ? 'sent' : 'failed'] += batch?.count ?? 0;
        }
        const sending = under.reduce((sum, { count }) => sum + count, 0);
        assert.deepEqual(tally.counts, { ...model, sending });
        assert.ok(tally.counts.waiting <= most);
      }
    }),
  );
});

it('tells of losses at most once a minute, with the counts', () => {
  const { clock, tally, told } = tallied();
  for (let second = 0; second < 130; second++) {
    tally.admit(1);
    clock.advance(1000);
  }
  tally.departs(1)(new Error('no route'));
  tally.givenUp();
  const whys = told.map((one) => (one as [string, { why: string; dropped: number }])[1]);
  assert.deepEqual(
    whys.map(({ dropped }) => dropped),
    [1, 61, 121],
  );
  assert.match(whys[0]!.why, /1 spans wait already, the most that are held/);
});
