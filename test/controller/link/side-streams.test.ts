import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, type MessageShape } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { Client, type ClientDuplexStream, credentials, Metadata } from '@grpc/grpc-js';
import {
  AgentLinkService,
  type TelemetryRequest,
  TelemetryRequestSchema,
  type TunnelRequest,
  TunnelRequestSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { grpcMethodDefinition } from '../../../src/core/grpc-definition.ts';
import { FleetUnderTest, until } from './fleet-fixture.ts';

describe('telemetry and tunnels', () => {
  let fleet: FleetUnderTest;
  let client: Client;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
    client = new Client(fleet.grpcAddress, credentials.createInsecure());
  });
  afterEach(async () => {
    client.close();
    await fleet[Symbol.asyncDispose]();
  });

  function open<Q extends MessageShape<typeof TelemetryRequestSchema> | MessageShape<typeof TunnelRequestSchema>>(
    method: 'telemetry' | 'tunnel',
  ) {
    const { path, requestSerialize, responseDeserialize } = grpcMethodDefinition(AgentLinkService.method[method]);
    const metadata = new Metadata();
    metadata.set('longline-agent-id', 'a');
    const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
    const seen: { code: number | undefined; messages: unknown[] } = { code: undefined, messages: [] };
    call.on('data', (message: unknown) => seen.messages.push(message));
    call.on('error', () => undefined);
    call.on('status', (status: { code: number }) => {
      seen.code = status.code;
    });
    return { call: call as unknown as ClientDuplexStream<Q, unknown>, seen };
  }

  it('says how often figures are wanted and ends with the caller', async () => {
    const { call, seen } = open<TelemetryRequest>('telemetry');
    const first = (await until('the interval', () => seen.messages[0])) as {
      interval: Parameters<typeof durationMs>[0];
    };
    assert.equal(durationMs(first.interval), 10_000);
    call.write(create(TelemetryRequestSchema, { dropped: 3n }));
    call.end();
    await until('the end', () => seen.code === 0);
  });

  it('matches a tunnel with who waits for it', async () => {
    const { tunnels } = fleet.services.link;
    const waiting = tunnels.expect('t1', 'a', 60_000);
    const { call, seen } = open<TunnelRequest>('tunnel');
    call.write(create(TunnelRequestSchema, { message: { case: 'open', value: { tunnelId: 't1' } } }));
    const opened = await waiting;
    const pieces = opened.tunnel.pieces()[Symbol.asyncIterator]();
    const piece = pieces.next();
    call.write(create(TunnelRequestSchema, { message: { case: 'data', value: new Uint8Array([1, 2]) } }));
    assert.deepEqual((await piece).value, { kind: 'data', data: Buffer.from([1, 2]) });
    opened.end();
    await until('the end', () => seen.code === 0);
  });

  it('refuses tunnels nobody waits for, and gives up on those that do not come', async () => {
    const unknown = open<TunnelRequest>('tunnel');
    unknown.call.write(create(TunnelRequestSchema, { message: { case: 'open', value: { tunnelId: 'x' } } }));
    await until('not found', () => unknown.seen.code === 5);
    await assert.rejects(fleet.services.link.tunnels.expect('t2', 'a', 20), /opened no tunnel within 20 ms/);
    const failing = fleet.services.link.tunnels.expect('t3', 'a', 60_000);
    failing.catch(() => undefined);
    const { call } = open<TunnelRequest>('tunnel');
    const error = { message: 'port 80 is closed' };
    call.write(create(TunnelRequestSchema, { message: { case: 'open', value: { tunnelId: 't3', error } } }));
    await assert.rejects(failing, /port 80 is closed/);
  });

  it('gives up on a stream that never says which tunnel it is', async () => {
    client.close();
    await fleet[Symbol.asyncDispose]();
    fleet = await FleetUnderTest.start({ link: { helloTimeoutMs: 100 } });
    client = new Client(fleet.grpcAddress, credentials.createInsecure());
    const mute = open<TunnelRequest>('tunnel');
    await until('too late', () => mute.seen.code === 4);
  });
});
