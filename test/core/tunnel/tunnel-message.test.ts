import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { TunnelFrame } from '../../../src/core/tunnel/tunnel-frame.ts';
import { inwardFrame, inwardMessage, outwardFrame, outwardMessage } from '../../../src/core/tunnel/tunnel-message.ts';

const BOTH: readonly TunnelFrame[] = [
  { kind: 'data', data: Uint8Array.of(0, 255) },
  { kind: 'half_close' },
  { kind: 'window', taken: 2 ** 40 },
];
const INWARD: readonly TunnelFrame[] = [
  { kind: 'resize', size: { columns: 80, rows: 24 } },
  { kind: 'signal', signal: 'SIGINT' },
];
const OUTWARD: readonly TunnelFrame[] = [
  { kind: 'stderr', data: Uint8Array.of(1) },
  { kind: 'exit', code: 3, signal: '' },
];

suite('messages of tunnels', () => {
  test('carry every frame of their direction unchanged', () => {
    for (const frame of [...BOTH, ...INWARD]) assert.deepEqual(inwardFrame(inwardMessage(frame)), frame);
    for (const frame of [...BOTH, ...OUTWARD]) assert.deepEqual(outwardFrame(outwardMessage(frame)), frame);
  });

  test('carry no frame of the other direction', () => {
    for (const frame of OUTWARD)
      assert.throws(() => inwardMessage(frame), /no "(stderr|exit)" goes towards the target/);
    for (const frame of INWARD) assert.throws(() => outwardMessage(frame), /goes towards the caller/);
    assert.equal(inwardFrame(outwardMessage(OUTWARD[1]!) as never), undefined);
  });

  test('that are no frames, or of a later version, give none', () => {
    assert.equal(inwardFrame({ case: 'open' }), undefined);
    assert.equal(outwardFrame({ case: undefined }), undefined);
  });
});
