import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import type { RollbackRequest } from '../../../src/capabilities/programs/ports.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { FaultProxy } from '../../fixtures/fault-proxy.ts';
import { missingNats, NatsServer } from '../../fixtures/nats-server.ts';
import {
  ARTIFACT,
  announcer,
  clientOf,
  closeAll,
  listen,
  OddServer,
  PROGRAM,
  type Published,
  ROLLBACK,
  ROLLED_BACK,
  told,
  until,
} from './nats-fixture.ts';

const SUBJECT = 'orchestrator.rollback.host-001';
const packetsOf = (heard: readonly Published[]) =>
  heard.filter(({ type }) => type === 'program_telemetry').map(({ data }) => data['packets_processed']);

describe('announcer on NATS', { skip: missingNats }, () => {
  let server: NatsServer;
  before(async () => {
    server = await NatsServer.start();
  });
  afterEach(closeAll);
  after(async () => {
    await server[Symbol.asyncDispose]();
  });

  it('publishes figures, changes and signs of life, which another client sees', async () => {
    const { heard } = await listen(server.address);
    const { announcer: made } = announcer(server.url);
    made.measured([told(1), told(2)]);
    made.changed({ ...PROGRAM, what: 'loaded' });
    made.changed(ROLLED_BACK);
    made.heartbeat(3);
    await until('all messages', () => heard.length === 5);
    assert.deepEqual(packetsOf(heard), [1, 2]);
    const statuses = heard.filter(({ type }) => type === 'program_event').map(({ data }) => data['status']);
    assert.deepEqual(statuses, ['loaded', 'rolled_back']);
    const life = heard.find(({ type }) => type === 'agent_heartbeat');
    assert.equal(life?.data['loaded_programs'], 3);
    assert.deepEqual(made.counts, { dropped: 0, waiting: 0 });
  });

  it('sends what waits before it ends, and nothing afterwards', async () => {
    const { heard } = await listen(server.address);
    const { announcer: made } = announcer(server.url);
    await until('connected', () => made.connected);
    for (let packets = 0; packets < 200; packets++) made.measured([told(packets)]);
    await made[Symbol.asyncDispose]();
    await made[Symbol.asyncDispose]();
    made.measured([told(999)]);
    await until('the last one', () => heard.length === 200);
    assert.deepEqual(
      packetsOf(heard),
      Array.from({ length: 200 }, (_, index) => index),
    );
  });

  it('keeps messages while the server is dead, counts those that are too many, and goes on with another one', async () => {
    await using own = await NatsServer.start();
    const { announcer: made, log } = announcer(own.url, { limits: { maxMessages: 5 } });
    await until('connected', () => made.connected);
    await own.kill();
    await until('told', () => log.find(/NATS is not there/));
    made.changed({ ...PROGRAM, what: 'unloaded' });
    for (let packets = 0; packets < 10; packets++) made.measured([told(packets)]);
    assert.deepEqual(made.counts, { dropped: 6, waiting: 5 });
    await own.resume();
    const { heard } = await listen(own.address);
    // It may have been there before the listener, which then sees only what comes later.
    await until('connected again', () => made.connected && made.counts.waiting === 0);
    made.measured([told(77)]);
    await until('the next one', () => packetsOf(heard).includes(77));
    assert.deepEqual(log.find(/were dropped/), { since: 6, ever: 6 });
  });

  it('loses nothing that fits when connections break in the middle of it', async () => {
    await using proxy = await FaultProxy.start(server.port);
    const { heard } = await listen(server.address);
    const { announcer: made } = announcer(`nats://127.0.0.1:${proxy.port}`);
    await until('connected', () => made.connected);
    for (let packets = 0; packets < 500; packets++) {
      if (packets % 100 === 50) proxy.inject({ kind: 'cut_after', bytes: 3_000 });
      made.measured([told(packets)]);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until('all of them', () => new Set(packetsOf(heard)).size === 500);
    assert.ok(proxy.accepted > 1, 'connections did break');
    assert.equal(made.counts.dropped, 0);
    const ids = new Map(heard.map(({ data, metadata }) => [metadata['message_id'], data['packets_processed']]));
    assert.equal(ids.size, 500, 'what comes twice has the same id');
  });

  it('waits for a server that is not there at the start', async () => {
    await using own = await NatsServer.start();
    await own.kill();
    const { announcer: made, log } = announcer(own.url);
    made.changed({ ...PROGRAM, what: 'loaded' });
    await until('several tries', () => log.lines.filter(({ message }) => message === 'NATS is not there').length > 2);
    assert.equal(log.lines.filter(({ level }) => level === 'warn').length, 1, 'said once, not at each try');
    await own.resume();
    await until('sent', () => made.connected && made.counts.waiting === 0);
  });

  it('is held up by no server that reads nothing, and holds no more than it may', async () => {
    await using own = await NatsServer.start();
    const { heard } = await listen(own.address);
    const { announcer: made, log } = announcer(own.url, { limits: { flushMs: 300, maxMessages: 100 } });
    await until('connected', () => made.connected);
    own.halt();
    for (let packets = 0; packets < 5000; packets++) made.measured([told(packets)]);
    await until('given up', () => log.find(/NATS did not answer in 300 ms/));
    assert.ok(made.counts.waiting <= 100 && made.counts.dropped >= 4900 - 64);
    own.goOn();
    await until('all that was kept', () => packetsOf(heard).includes(4999));
  });

  it('hangs up on a server that never speaks, and ends at once even so', async () => {
    await using deaf = await OddServer.start(() => undefined);
    const { announcer: made, log } = announcer(deaf.url, { limits: { connectMs: 100 } });
    await until('several tries', () => log.lines.filter(({ message }) => message === 'NATS is not there').length > 4);
    assert.ok(deaf.open <= 2, `${deaf.open} connections are open`);
    await made[Symbol.asyncDispose]();
    await until('all closed', () => deaf.open === 0);
  });

  it('hangs up on a server that lies', async () => {
    await using liar = await OddServer.start((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const { log } = announcer(liar.url);
    await until('told', () => log.find(/NATS is not there can't connect to NATS at 127\.0\.0\.1/));
  });

  it('hangs up on a server that begins to speak and then stops', async () => {
    const info = { server_id: 'x', version: '2.9.0', proto: 1, host: '127.0.0.1', port: 1, max_payload: 1024 };
    for (const more of [{}, { tls_required: true }, { tls_available: true }]) {
      const greeting = `INFO ${JSON.stringify({ ...info, ...more })}\r\n`;
      await using odd = await OddServer.start((socket) => socket.write(greeting));
      const { announcer: made, log } = announcer(odd.url, { limits: { connectMs: 100 } });
      await until('several tries', () => log.lines.filter(({ message }) => message === 'NATS is not there').length > 3);
      assert.ok(odd.open <= 2, `${odd.open} connections are open with ${JSON.stringify(more)}`);
      await made[Symbol.asyncDispose]();
      await until('all closed', () => odd.open === 0);
    }
  });

  it('carries out rollbacks that are asked for and answers with how they ended', async () => {
    const asked: RollbackRequest[] = [];
    const { announcer: made } = announcer(server.url);
    const client = await clientOf(server.address);
    await until('connected', () => made.connected);
    const ask = async (request: unknown) => {
      const text = typeof request === 'string' ? request : JSON.stringify(request);
      return (await client.request(SUBJECT, text, { timeout: 60_000 })).json<Record<string, unknown>>();
    };
    const early = await ask({ program: 'drop' });
    assert.deepEqual([early['ok'], (early['error'] as { reason: string }).reason], [false, 'unavailable']);
    made.serveRollbacks(async (request) => {
      asked.push(request);
      if (request.program === 'none') throw new LonglineError('not_found', 'no program "none"');
      if (request.program === 'wrong') throw new TypeError('a secret of the inside');
      return ROLLBACK;
    });
    const done = await ask({ artifact_id: ARTIFACT, reason: 'too many drops' });
    assert.equal(done['ok'], true);
    assert.deepEqual(asked, [
      { program: undefined, artifact: ARTIFACT, reason: 'too many drops', requestedBy: 'nats' },
    ]);
    assert.deepEqual(await ask({ program: 'none' }), {
      ok: false,
      error: { reason: 'not_found', message: 'no program "none"' },
    });
    assert.doesNotMatch(JSON.stringify(await ask({ program: 'wrong' })), /secret/);
    assert.match(JSON.stringify(await ask('no json')), /"reason":"invalid"/);
    client.publish(SUBJECT, JSON.stringify({ program: 'drop' }));
    await until('taken without an answer', () => asked.length === 4);
  });

  it('refuses rollbacks that are too many, and ends while one hangs', async () => {
    const { announcer: made } = announcer(server.url);
    const client = await clientOf(server.address);
    await until('connected', () => made.connected);
    let begun = 0;
    made.serveRollbacks(() => {
      begun += 1;
      return new Promise(() => undefined);
    });
    const replies: string[] = [];
    for (let count = 0; count < 20; count++) {
      client
        .request(SUBJECT, '{"program": "drop"}', { timeout: 60_000 })
        .then((reply) => replies.push(reply.string()))
        // What hangs is answered by nobody.
        .catch(() => undefined);
    }
    await until('refused', () => replies.length === 4);
    assert.ok(replies.every((reply) => /"reason":"limit"/.test(reply)));
    assert.equal(begun, 1, 'one after the other');
    await made[Symbol.asyncDispose]();
  });

  it('takes rollbacks again after the server was gone', async () => {
    await using own = await NatsServer.start();
    const { announcer: made } = announcer(own.url);
    made.serveRollbacks(async () => ROLLBACK);
    await until('connected', () => made.connected);
    await own.kill();
    await until('noticed', () => !made.connected);
    await own.resume();
    await until('connected again', () => made.connected);
    const client = await clientOf(own.address);
    const reply = await client.request(SUBJECT, '{"program": "drop"}', { timeout: 60_000 });
    assert.equal(reply.json<{ ok: boolean }>().ok, true);
  });
});
