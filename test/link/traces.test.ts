// Spans of what comes over the link and is no command: their parents, and how they fail.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import { NetworkDesiredStateSchema } from '#gen/longline/v1/network_pb.js';
import { StateRegistry } from '../../src/agent/state-registry.ts';
import { LonglineError } from '../../src/core/errors.ts';
import { noSpan, type Span, type SpanOptions, type Tracer } from '../../src/core/tracer.ts';
import { wireTime } from '../../src/link/wire.ts';
import { FakeNetwork } from '../fixtures/fake-network.ts';
import { AgentSide } from './agent-side.ts';
import { TestController } from './controller-double.ts';
import { scratchFolder, until } from './scratch.ts';

const CALLER = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;

/** Writes down what spans it was asked for, and what became of them. */
class RecordingTracer implements Tracer {
  readonly spans: { name: string; options: SpanOptions; failed?: string; ended: boolean }[] = [];

  start(name: string, options: SpanOptions = {}): Span {
    const record: (typeof this.spans)[number] = { name, options, ended: false };
    this.spans.push(record);
    return {
      ...noSpan,
      fail: (error) => {
        record.failed = (error as Error).message;
      },
      end: () => {
        record.ended = true;
      },
    };
  }

  current = () => '';
  apart = <T>(work: () => T) => work();
}

it('puts the reaching for a tunnel into the trace of whoever opened it, and says why it failed', async () => {
  await using folder = await scratchFolder();
  await using controller = await TestController.start();
  const tracer = new RecordingTracer();
  const reach = async () => Promise.reject(new LonglineError('policy', 'port 1 is not offered'));
  await using agent = await AgentSide.open(folder.path, () => controller.port, { tracer, tunnelTargets: { reach } });
  await agent.start();
  await until('the link', () => controller.open.length === 1);
  const ask = { tunnelId: 't', sessionId: 'desk', port: 1, expireTime: wireTime(Date.now() + 60_000) };
  controller.send({ case: 'openTunnel', value: { ...ask, traceparent: CALLER } });
  await until('the refusal', () => controller.tunnels.length === 1);
  const [span] = tracer.spans;
  assert.deepEqual([span!.name, span!.options.parent, span!.options.kind], ['reach', CALLER, 'consumer']);
  assert.deepEqual(span!.options.attributes, { 'longline.session.id': 'desk' });
  assert.deepEqual([span!.failed, span!.ended], ['port 1 is not offered', true]);
});

it('tells a desired state that can not be taken here, and why', async () => {
  await using folder = await scratchFolder();
  await using controller = await TestController.start();
  const tracer = new RecordingTracer();
  const refusal = () => new LonglineError('unavailable', 'CAP_NET_ADMIN is missing');
  const host = new StateRegistry([new FakeNetwork({})], { availability: new Map(), refusal });
  const admission = {
    admit: async () => assert.fail('nothing is admitted'),
    refused: () => undefined,
    taken: () => undefined,
  };
  await using agent = await AgentSide.open(folder.path, () => controller.port, { tracer, states: { host, admission } });
  await agent.start();
  await until('the link', () => controller.open.length === 1);
  const body = { case: 'network' as const, value: create(NetworkDesiredStateSchema, {}) };
  const value = { kind: DesiredStateKind.NETWORK, generation: 3n, baseGeneration: 0n, body, traceparent: CALLER };
  controller.send({ case: 'desiredState', value });
  await until('the span', () => tracer.spans.some(({ ended }) => ended));
  const [span] = tracer.spans;
  assert.deepEqual(
    [span!.name, span!.options.parent, span!.failed],
    ['desired state', CALLER, 'CAP_NET_ADMIN is missing'],
  );
  assert.equal(span!.options.attributes?.['longline.state.generation'], 3);
});
