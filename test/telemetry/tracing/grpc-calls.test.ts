// Spans of calls between a client and a server of grpc-js, over loopback, as a collector sees them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  status as Status,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { noTracer, traced } from '../../../src/core/tracer.ts';
import { tracedClient, tracedServer } from '../../../src/telemetry/tracing/grpc-calls.ts';
import { startTracing, type Tracing } from '../../../src/telemetry/tracing/tracing.ts';
import { OtlpReceiver, type SeenSpan } from '../../fixtures/otlp-receiver.ts';

const text = { serialize: (value: string) => Buffer.from(value), deserialize: String };
const kinds = { do: [false, false], getIt: [false, false], fetch: [false, true], talk: [true, true] } as const;
const SERVICE = Object.fromEntries(
  Object.entries(kinds).map(([name, [requestStream, responseStream]]) => [
    name,
    {
      path: `/longline.test.v1.Tests/${name[0]!.toUpperCase()}${name.slice(1)}`,
      ...{ requestStream, responseStream },
      ...{ requestSerialize: text.serialize, requestDeserialize: text.deserialize },
      ...{ responseSerialize: text.serialize, responseDeserialize: text.deserialize },
    },
  ]),
);
const DO = 'longline.test.v1.Tests/Do';
const FETCH = 'longline.test.v1.Tests/Fetch';

/** The two ends of the call of this name that came last. */
function ends(spans: readonly SeenSpan[], name: string): { client: SeenSpan; server: SeenSpan } | undefined {
  const client = spans.findLast((span) => span.name === name && span.kind === 'SPAN_KIND_CLIENT');
  const server = spans.find((span) => span.name === name && client !== undefined && span.parent === client.id);
  return client && server && { client, server };
}

describe('spans of calls over grpc-js', () => {
  let receiver: OtlpReceiver;
  let tracing: Tracing;
  let server: Server;
  let client: Client;
  let address: string;

  before(async () => {
    receiver = await OtlpReceiver.start();
    const who = { environment: receiver.environment(), service: 'test', version: '1' };
    tracing = await startTracing({ ...who, clock: systemClock, log: silentLogger });
    const { tracer } = tracing;
    server = new Server({ interceptors: tracedServer(tracer) });
    server.addService(SERVICE, {
      do: (call: ServerUnaryCall<string, string>, reply: sendUnaryData<string>) =>
        void traced(tracer, 'within', {}, async () => {
          await new Promise(setImmediate);
          if (call.request === 'ok') reply(null, tracer.current());
          else reply({ code: Status[call.request as 'OK'], details: `no ${call.request}; Bearer abcdefghijkl` });
        }),
      getIt: (call: ServerUnaryCall<string, string>, reply: sendUnaryData<string>) =>
        reply(null, String(call.metadata.get('traceparent')[0] ?? '')),
      fetch: (call: ServerWritableStream<string, string>) => {
        call.write('a');
        if (call.request === 'all') call.end();
      },
      talk: (call: ServerDuplexStream<string, string>) => {
        call.on('data', (heard: string) => call.write(heard));
        call.on('end', () => call.end());
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    address = `127.0.0.1:${port}`;
    client = new Client(address, credentials.createInsecure());
  });

  after(async () => {
    client?.close();
    server?.forceShutdown();
    await tracing?.[Symbol.asyncDispose]();
    await receiver?.[Symbol.asyncDispose]();
  });

  function asks(name: 'do' | 'getIt', question: string, metadata = new Metadata(), tracer = tracing.tracer) {
    const { path, requestSerialize, responseDeserialize } = SERVICE[name]!;
    const options = { interceptors: tracedClient(tracer, address) };
    return new Promise<string>((resolve, reject) => {
      const answered = (error: Error | null, answer?: string) => (error === null ? resolve(answer!) : reject(error));
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, question, metadata, options, answered);
    });
  }

  function fetches(question: string) {
    const { path, requestSerialize, responseDeserialize } = SERVICE['fetch']!;
    const options = { interceptors: tracedClient(tracing.tracer, address) };
    return client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, question, options);
  }

  it('are one at each end, below what asks, and above what is done', async () => {
    const { traceparent } = await traced(tracing.tracer, 'asking', {}, async (span) => {
      assert.match(await asks('do', 'ok'), /^00-/);
      return span;
    });
    const { client: asked, server: answered } = await receiver.until('both ends', (spans) => ends(spans, DO));
    const within = await receiver.until('what is done', (spans) => spans.find(({ name }) => name === 'within'));
    assert.deepEqual([asked.traceId, asked.parent], traceparent.split('-').slice(1, 3));
    assert.deepEqual([answered.kind, within.parent], ['SPAN_KIND_SERVER', answered.id]);
    const attributes = { 'rpc.system.name': 'grpc', 'rpc.method': DO, 'rpc.response.status_code': 'OK' };
    assert.deepEqual(answered.attributes, attributes);
    const [host, port] = address.split(':');
    assert.deepEqual(asked.attributes, { ...attributes, 'server.address': host, 'server.port': port });
    assert.deepEqual([asked.status, answered.status], ['STATUS_CODE_UNSET', 'STATUS_CODE_UNSET']);
  });

  for (const [code, isFault] of [
    ['NOT_FOUND', false],
    ['UNAVAILABLE', true],
  ] as const) {
    it(`say how a call failed with ${code}, and whose fault that is`, async () => {
      await assert.rejects(asks('do', code));
      const failed = await receiver.until('both ends', (spans) => {
        const found = ends(spans, DO);
        return found?.client.attributes['rpc.response.status_code'] === code ? found : undefined;
      });
      for (const end of [failed.client, failed.server]) {
        assert.deepEqual([end.attributes['rpc.response.status_code'], end.attributes['error.type']], [code, code]);
      }
      assert.equal(failed.client.status, 'STATUS_CODE_ERROR');
      assert.equal(failed.client.statusMessage, `no ${code}; [redacted]`);
      assert.equal(failed.server.status, isFault ? 'STATUS_CODE_ERROR' : 'STATUS_CODE_UNSET');
    });
  }

  it('end with the stream that answers, however it ends', async () => {
    for await (const piece of fetches('all')) assert.equal(piece, 'a');
    const whole = await receiver.until('both ends', (spans) => ends(spans, FETCH));
    assert.equal(whole.server.attributes['rpc.response.status_code'], 'OK');
    assert.equal(whole.client.attributes['rpc.response.status_code'], 'OK');
    const stream = fetches('some');
    await once(stream, 'data');
    const cut = once(stream, 'error');
    stream.cancel();
    await cut;
    const { client: asked, server: answered } = await receiver.until('both ends of the other', (spans) => {
      const found = ends(spans, FETCH);
      return found?.client.id === whole.client.id ? undefined : found;
    });
    for (const end of [asked, answered]) assert.equal(end.attributes['rpc.response.status_code'], 'CANCELLED');
    assert.deepEqual([asked.status, answered.status], ['STATUS_CODE_ERROR', 'STATUS_CODE_UNSET']);
  });

  it('are none of reads outside of a trace, of streams that both write to, and where nothing is traced', async () => {
    const before = receiver.spans.length;
    assert.equal(await asks('getIt', 'x', new Metadata(), noTracer), '');
    const { path, requestSerialize, responseDeserialize } = SERVICE['talk']!;
    const talk = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    talk.write('x');
    await once(talk, 'data');
    talk.end();
    talk.resume();
    await once(talk, 'end');
    // Within a trace a read has its span, which comes after whatever those before might have had.
    const metadata = new Metadata();
    metadata.set('traceparent', `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`);
    await asks('getIt', 'x', metadata, noTracer);
    const read = await receiver.until('the read', (spans) =>
      spans.slice(before).find(({ name }) => /GetIt/.test(name)),
    );
    assert.deepEqual([read.traceId, read.parent], ['a'.repeat(32), 'b'.repeat(16)]);
    assert.equal(receiver.spans.length, before + 1);
    assert.deepEqual([tracedClient(noTracer, ''), tracedServer(noTracer)], [[], []]);
  });
});
