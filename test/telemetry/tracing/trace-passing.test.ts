import assert from 'node:assert/strict';
import { it } from 'node:test';
import { noSpan, traced } from '../../../src/core/tracer.ts';
import { tracePassing } from '../../../src/telemetry/tracing/trace-passing.ts';

const CALLER = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;

it('hands the trace of the caller on through whatever is done for it', async () => {
  const tracer = tracePassing();
  await traced(tracer, 'call', { parent: CALLER }, async () => {
    await new Promise(setImmediate);
    await traced(tracer, 'store', {}, async (span) => assert.equal(span.traceparent, CALLER));
    assert.equal(tracer.current(), CALLER);
    tracer.apart(() => assert.equal(tracer.current(), ''));
  });
  assert.equal(tracer.current(), '');
});

it('begins none, and takes only what is sound', () => {
  const tracer = tracePassing();
  assert.equal(tracer.start('call'), noSpan);
  for (const parent of ['', 'nonsense', CALLER.replace('00-', 'ff-'), CALLER.replaceAll('a', '0'), `${CALLER}-x`]) {
    assert.equal(tracer.start('call', { parent }), noSpan, parent);
  }
});
