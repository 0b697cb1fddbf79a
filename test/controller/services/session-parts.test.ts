// Parts of SessionService that stand alone: bounds of what is kept of figures, and where a session is put.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { SessionTelemetrySchema } from '#gen/longline/v1/session_pb.js';
import { checkNamed, roomiest } from '../../../src/controller/services/session-placement.ts';
import { SessionUsageCache } from '../../../src/controller/services/session-usage.ts';
import type { SessionCandidate } from '../../../src/controller/store/session.ts';
import { LonglineError } from '../../../src/core/errors.ts';

const sample = (sessionId: string, atMs: number) =>
  create(SessionTelemetrySchema, { sessionId, time: timestampFromMs(atMs) });

describe('figures of sessions', () => {
  const timesOf = (cache: SessionUsageCache, id: string) =>
    cache.samples('a', id, -1).map(({ time }) => Number(time!.seconds) * 1000 + time!.nanos / 1e6);

  it('keep one sample for each step of time, the latest always, and none that is older', () => {
    const cache = new SessionUsageCache({ spacingMs: 1000, maxSessions: 10, staleMs: 5000 });
    for (const at of [1000, 1500, 1900, 2400, 2300, 2600]) cache.put('a', sample('s', at));
    assert.deepEqual(timesOf(cache, 's'), [1000, 1900, 2600]);
    assert.equal(cache.latest('a', 's', 7000)?.sessionId, 's');
    assert.equal(cache.latest('a', 's', 7700), undefined);
    assert.deepEqual(cache.samples('b', 's', -1), []);
  });

  it('stay within their bounds, in samples and in sessions', () => {
    const cache = new SessionUsageCache({ spacingMs: 1, maxSessions: 3, staleMs: 5000 });
    for (let at = 1; at <= 1000; at++) cache.put('a', sample('long', at * 10));
    assert.equal(timesOf(cache, 'long').length, 360);
    assert.equal(timesOf(cache, 'long').at(-1), 10_000);
    for (const id of ['x', 'y', 'long', 'z']) cache.put('a', sample(id, 20_000));
    assert.deepEqual(timesOf(cache, 'x'), []);
    assert.notDeepEqual(timesOf(cache, 'long'), []);
  });
});

describe('placement of sessions', () => {
  const candidate = (id: string, patch: Partial<SessionCandidate> = {}): SessionCandidate => ({
    id,
    online: true,
    drained: false,
    revoked: false,
    offersSessions: true,
    max: { sessions: 10, cpus: 10, memoryBytes: 100 },
    held: { sessions: 0, cpus: 0, memoryBytes: 0 },
    ...patch,
  });
  const needs = { cpus: 1, memoryBytes: 10 };
  const refusal = (act: () => unknown): LonglineError => {
    try {
      act();
    } catch (error) {
      assert.ok(error instanceof LonglineError);
      return error;
    }
    throw new assert.AssertionError({ message: 'nothing was refused' });
  };

  it('goes by the scarcest good', () => {
    const memoryFull = candidate('m', { held: { sessions: 1, cpus: 1, memoryBytes: 80 } });
    const cpuHalf = candidate('c', { held: { sessions: 5, cpus: 5, memoryBytes: 10 } });
    assert.equal(roomiest([memoryFull, cpuHalf], needs), 'c');
    const equal = [candidate('one'), candidate('two')];
    assert.deepEqual([roomiest(equal, needs, () => 0), roomiest(equal, needs, () => 0.9)], ['one', 'two']);
  });

  it('takes an agent whose limits are not known, and none that takes nothing', () => {
    const unknown = candidate('u', { max: { sessions: 0, cpus: 0, memoryBytes: 0 } });
    assert.equal(roomiest([candidate('off', { online: false }), unknown], needs), 'u');
    const none = refusal(() =>
      roomiest(
        [
          candidate('off', { online: false }),
          candidate('old', { offersSessions: undefined }),
          candidate('gone', { revoked: true }),
        ],
        needs,
      ),
    );
    assert.equal(none.reason, 'wrong_state');
    assert.match(none.message, /1 offline, 1 without the sessions capability, 1 revoked/);
    assert.equal(refusal(() => roomiest([], needs)).reason, 'not_found');
  });

  it('refuses with the numbers', () => {
    const full = candidate('f', { held: { sessions: 10, cpus: 0, memoryBytes: 0 } });
    const named = refusal(() => checkNamed('f', full, needs));
    assert.equal(named.reason, 'limit');
    assert.match(named.message, /agent f has no room: 10 of 10 sessions/);
    const many = Array.from({ length: 5 }, (_, index) => candidate(`f${index}`, { held: full.held }));
    assert.match(refusal(() => roomiest(many, needs)).message, /5 agents could .* f2: 10 of 10 sessions and 2 more/);
    checkNamed('away', candidate('away', { online: false }), needs);
    assert.equal(refusal(() => checkNamed('no', undefined, needs)).reason, 'not_found');
    assert.equal(
      refusal(() => checkNamed('no', candidate('no', { offersSessions: false }), needs)).reason,
      'unsupported',
    );
  });
});
