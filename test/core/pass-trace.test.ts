import assert from 'node:assert/strict';
import { it } from 'node:test';
import { PassTrace } from '../../src/core/pass-trace.ts';
import { noSpan, type SpanOptions, type Tracer } from '../../src/core/tracer.ts';

function tracing(current: string) {
  const spans: SpanOptions[] = [];
  const failures: unknown[] = [];
  const tracer: Tracer = {
    start: (_, options = {}) => {
      spans.push(options);
      return { ...noSpan, fail: (error) => void failures.push(error) };
    },
    current: () => current,
    apart: (work) => work(),
  };
  return { spans, failures, trace: new PassTrace(tracer, 'item') };
}

it('spans the pass after a change, and none after that', async () => {
  const { failures, spans, trace } = tracing('caller');
  const pass = async (problem?: string) =>
    await trace.pass(
      async () => 1,
      () => problem,
    );
  await pass();
  trace.asked();
  assert.equal(await pass('not there yet'), 1);
  await pass();
  assert.deepEqual(spans, [{ parent: 'caller', attributes: { 'longline.state.item': 'item' } }]);
  assert.deepEqual(failures, ['not there yet']);
});

it('spans nothing where what is asked for is there already, or nobody looks on', async () => {
  const same = tracing('caller');
  same.trace.asked(() => false);
  await same.trace.pass(
    async () => 1,
    () => undefined,
  );
  const unseen = tracing('');
  unseen.trace.asked(() => assert.fail('nobody has to compare'));
  await unseen.trace.pass(
    async () => 1,
    () => undefined,
  );
  assert.deepEqual([same.spans, unseen.spans], [[], []]);
});
