// docs/metrics.md lists every figure as it is, and no other.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { AGENT_METRICS } from '../../../src/telemetry/metrics/agent-names.ts';
import { CONTROLLER_METRICS } from '../../../src/telemetry/metrics/controller-names.ts';

it('the page of figures is complete and right', async () => {
  const text = await readFile(join(import.meta.dirname, '../../../docs/metrics.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `((?:longline|process)_\w+)` \| (\w+) \| ([^|]*) \| (.+) \|$/gm)];
  const written = rows.map(([, name, type, labels, help]) => [
    name!,
    { type, labels: [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label), help },
  ]);
  const real = [...AGENT_METRICS, ...CONTROLLER_METRICS].map(({ name, type, labels, help }) => [
    name,
    { type, labels: [...labels], help },
  ]);
  assert.deepEqual(Object.fromEntries(written), Object.fromEntries(real));
  assert.equal(new Set(rows.map(([, name]) => name)).size, rows.length);
});
