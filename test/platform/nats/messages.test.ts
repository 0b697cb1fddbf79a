import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../../src/core/errors.ts';
import { changeMessage, figuresMessage, heartbeatMessage } from '../../../src/platform/nats/message.ts';
import { Outbox, type OutboxKind } from '../../../src/platform/nats/outbox.ts';
import { parseRollbackRequest, refusalReply, rollbackReply } from '../../../src/platform/nats/rollback-message.ts';
import { parseServers } from '../../../src/platform/nats/servers.ts';
import { rollbackSubject, telemetrySubject } from '../../../src/platform/nats/subject.ts';
import { ARTIFACT, PROGRAM, ROLLBACK, ROLLED_BACK, told } from './nats-fixture.ts';

const SOURCE = { hostId: 'host-001', agentVersion: '1.0.0' };
const read = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes));
const bytes = (value: unknown) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));

describe('messages to NATS', () => {
  it('of figures have the shape that orchestrators know, and further facts beside it', () => {
    const message = read(figuresMessage(SOURCE, 'id-1', told()));
    assert.deepEqual(message, {
      type: 'program_telemetry',
      timestamp: '2026-01-15T10:30:00.000Z',
      data: {
        artifact_id: ARTIFACT,
        host_id: 'host-001',
        program: 'drop',
        version: '1.2.0',
        revision: 3,
        state: 'active',
        status: 'running',
        cpu_percent: 0.5,
        memory_kb: 1024,
        packets_processed: 1000,
        violations: 2,
        errors: 1,
        latency_ms: 0.1,
        runs: 500,
        counted_ms: 30_000,
        interval_ms: 30_000,
        packets_delta: 10,
        violations_delta: 0,
        errors_delta: null,
        events: 4,
        dropped_events: 1,
        counters: { drops: 7 },
      },
      metadata: { host_id: 'host-001', agent_version: '1.0.0', message_id: 'id-1' },
    });
    assert.equal(read(figuresMessage(SOURCE, 'x', { ...told(), state: 'rolling_back' })).data.status, 'rolling_back');
  });

  it('of a rollback tell why, by which threshold and which values, and when', () => {
    const message = read(changeMessage(SOURCE, { id: 'id-2', atMs: 0 }, ROLLED_BACK));
    assert.deepEqual([message.type, message.timestamp], ['program_event', '2026-01-15T10:31:00.000Z']);
    const { status, trigger, threshold, value, reason, rolled_back_to, values } = message.data;
    assert.deepEqual([status, trigger, threshold, value, reason], ['rolled_back', 'errors', 10, 25, ROLLBACK.reason]);
    assert.deepEqual([rolled_back_to, values.packets_processed], [ROLLBACK.toArtifact, 1000]);
    const unloaded = { ...ROLLBACK, toArtifact: undefined, figures: undefined, error: 'no revision before' };
    const { data } = read(changeMessage(SOURCE, { id: 'x', atMs: 0 }, { ...ROLLED_BACK, rollback: unloaded }));
    assert.deepEqual([data.rolled_back_to, data.values, data.error], [null, undefined, 'no revision before']);
  });

  it('of a change and of life are short', () => {
    const change = { ...PROGRAM, what: 'error', error: `verifier: ${'x'.repeat(5000)}` } as const;
    const message = read(changeMessage(SOURCE, { id: 'id-3', atMs: 1000 }, change));
    assert.deepEqual([message.data.status, message.data.error.length], ['error', 1024]);
    assert.deepEqual(read(heartbeatMessage(SOURCE, { id: 'id-4', atMs: 1000 }, 2)), {
      type: 'agent_heartbeat',
      timestamp: '1970-01-01T00:00:01.000Z',
      data: { host_id: 'host-001', status: 'healthy', loaded_programs: 2 },
      metadata: { host_id: 'host-001', agent_version: '1.0.0', message_id: 'id-4' },
    });
  });
});

describe('outbox', () => {
  it('lets changes go first and figures make room, and never holds more than it may', () => {
    const kinds = fc.constantFrom<OutboxKind>('change', 'figures', 'heartbeat');
    const steps = fc.array(fc.tuple(kinds, fc.nat(40), fc.boolean()), { maxLength: 200 });
    const property = fc.property(steps, (all) => {
      const outbox = new Outbox({ maxMessages: 10, maxBytes: 200 });
      let [put, replaced, taken] = [0, 0, 0];
      let heartbeatWaits = false;
      for (const [kind, size, take] of all) {
        if (kind === 'heartbeat' && heartbeatWaits) replaced += 1;
        const dropped = outbox.dropped;
        outbox.put({ kind, payload: new Uint8Array(size) });
        put += 1;
        // It is the last to go for want of room, and so only if nothing else waits.
        heartbeatWaits = kind === 'heartbeat' || (heartbeatWaits && (outbox.dropped === dropped || outbox.size > 1));
        assert.ok(outbox.size <= 10 && outbox.bytes <= 200);
        if (!take) continue;
        const batch = outbox.take(5);
        const order = batch.map((message) => ['change', 'heartbeat', 'figures'].indexOf(message.kind));
        assert.deepEqual(order, order.toSorted());
        if (batch.some((message) => message.kind === 'heartbeat')) heartbeatWaits = false;
        taken += batch.length;
      }
      assert.equal(put - replaced, taken + outbox.size + outbox.dropped, 'each is sent, waits, or is counted');
    });
    fc.assert(property);
  });

  it('takes back what was not sent, in its order, and no old sign of life', () => {
    const outbox = new Outbox({ maxMessages: 3, maxBytes: 1000 });
    const message = (kind: OutboxKind, mark: number) => ({ kind, payload: new Uint8Array([mark]) });
    outbox.put(message('change', 1));
    outbox.put(message('change', 2));
    outbox.put(message('heartbeat', 3));
    const batch = outbox.take(10);
    outbox.put(message('change', 4));
    outbox.put(message('figures', 5));
    outbox.putBack(batch);
    assert.deepEqual(
      outbox.take(10).map(({ payload }) => payload[0]),
      [1, 2, 4],
    );
    assert.deepEqual([outbox.dropped, outbox.bytes], [1, 0]);
  });
});

describe('subjects', () => {
  it('hold host ids as they are, and refuse those that would be another subject', () => {
    assert.equal(rollbackSubject('web-1.example.net'), 'orchestrator.rollback.web-1.example.net');
    for (const [id, why] of [
      ['*', /wildcard/],
      ['a.>', /wildcard/],
      ['a b', /blank/],
      ['a\r\nPUB x 0', /blank/],
      ['', /empty part/],
      ['a..b', /empty part/],
      ['a.', /empty part/],
      ['x'.repeat(300), /322 characters/],
    ] as const) {
      assert.throws(() => rollbackSubject(id), { reason: 'invalid', message: why });
    }
    assert.equal(telemetrySubject('agent.telemetry'), 'agent.telemetry');
    assert.throws(() => telemetrySubject('$SYS.x'), { reason: 'invalid', message: /\$SYS\.x.*begins with "\$"/ });
    assert.throws(() => telemetrySubject('agent.*'), { reason: 'invalid', message: /wildcard/ });
  });
});

describe('servers', () => {
  it('are read from URLs with user and password, a token, or nothing', () => {
    const none = { tls: false, user: undefined, password: undefined, token: undefined };
    assert.deepEqual(parseServers(['nats://localhost']), { ...none, addresses: ['localhost:4222'] });
    assert.deepEqual(parseServers(['nats://u:p%40ss@a:1', 'tls://[::1]:2/']), {
      addresses: ['a:1', '[::1]:2'],
      tls: true,
      user: 'u',
      password: 'p@ss',
      token: undefined,
    });
    assert.deepEqual(parseServers(['nats://s3cret@a']).token, 's3cret');
  });

  it('are refused with what would be right, and without what is secret', () => {
    for (const url of [
      'ws://u:hidden@a',
      'nats://',
      'localhost:4222',
      'nats://u:hidden@a/path',
      'nats://a,nats://b',
      '',
    ]) {
      assert.throws(
        () => parseServers([url]),
        (error: LonglineError) =>
          error.reason === 'invalid' && /must look like nats:/.test(error.message) && !/hidden/.test(error.message),
      );
    }
  });
});

describe('requests for rollbacks', () => {
  it('name a program, an artifact or both', () => {
    const given = { program: 'drop', artifact_id: ARTIFACT, reason: 'too many drops', host_id: 'host-001', more: 1 };
    const expected = { program: 'drop', artifact: ARTIFACT, reason: 'too many drops', requestedBy: 'nats' };
    assert.deepEqual(parseRollbackRequest(bytes(given), 'host-001'), expected);
    const short = parseRollbackRequest(bytes({ artifact_id: ARTIFACT }), 'host-001');
    assert.deepEqual([short.program, short.reason], [undefined, 'asked for over NATS']);
  });

  it('are refused with what is wrong', () => {
    for (const [request, why] of [
      ['', /no JSON/],
      ['{', /no JSON/],
      [new Uint8Array([0xff, 0xfe]), /no JSON in UTF-8/],
      ['[]', /must be an object/],
      ['null', /must be an object/],
      [{}, /program: is missing, and so is artifact_id/],
      [{ program: 7 }, /program: 7 must be a name/],
      [{ program: 'a/b' }, /program: "a\/b" must be a name/],
      [{ artifact_id: 'artifact-123' }, /artifact_id: "artifact-123" must be "sha256:"/],
      [{ program: 'drop', host_id: 'other' }, /host_id: "other" is another host; this one is "host-001"/],
      [{ program: 'drop', reason: 'x'.repeat(1025) }, /reason: .* at most 1024/],
      [{ program: 'drop', junk: 'x'.repeat(20_000) }, /at most 16384/],
    ] as const) {
      const data = request instanceof Uint8Array ? request : bytes(request);
      assert.throws(() => parseRollbackRequest(data, 'host-001'), { reason: 'invalid', message: why });
    }
  });

  it('never make anything but a request or an `invalid` of any bytes', () => {
    const anything = fc.oneof(fc.uint8Array(), fc.json().map(bytes), fc.record({ program: fc.string() }).map(bytes));
    const property = fc.property(anything, (data) => {
      try {
        const { program, artifact } = parseRollbackRequest(data, 'host-001');
        assert.ok(program !== undefined || artifact !== undefined);
      } catch (error) {
        assert.ok(error instanceof LonglineError && error.reason === 'invalid');
      }
    });
    fc.assert(property);
  });

  it('are answered with the rollback, also if it did not come about, or with the refusal', () => {
    const done = read(rollbackReply(ROLLBACK));
    assert.deepEqual(
      [done.ok, done.rollback.trigger, done.rollback.rolled_back_to],
      [true, 'errors', ROLLBACK.toArtifact],
    );
    assert.equal(read(rollbackReply({ ...ROLLBACK, error: 'no' })).ok, false);
    const refused = read(refusalReply(new LonglineError('not_found', 'no program "x"')));
    assert.deepEqual(refused, { ok: false, error: { reason: 'not_found', message: 'no program "x"' } });
  });
});
