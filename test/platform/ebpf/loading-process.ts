// A process of its own that loads, for the tests of kills and of missing privileges: `loading-process.ts MOUNT-POINT loop|support|life`.
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { BpfKernel } from '../../../src/platform/ebpf/bpf-kernel.ts';
import { usualCounter } from '../../fixtures/bpf/objects.ts';
import { loadRequest } from '../../fixtures/bpf-host.ts';

const [mountPoint = '', what] = process.argv.slice(2);
const warnings: string[] = [];
const log = { ...silentLogger, warn: (message: string) => warnings.push(message) };
const kernel = new BpfKernel({ instanceId: 'instance-1', log, mountPoint });

if (what === 'support') {
  const support = await kernel.support();
  const load = await kernel.load(loadRequest('xdp-counter', { program: 'p', revision: 1 })).then(
    ({ kind }) => kind,
    (error: unknown) => (error instanceof LonglineError ? error.reason : String(error)),
  );
  process.stdout.write(JSON.stringify({ list: await kernel.list(), load, support, warnings }));
} else if (what === 'life') {
  const first = { program: 'p', revision: 1 };
  const second = { program: 'p', revision: 2 };
  await kernel.load(loadRequest('xdp-counter', first));
  const outcome = await kernel.load(loadRequest('xdp-counter-v2', second, { carryFrom: first }));
  await kernel.stats(second);
  const counted = await kernel.readCounters(second, [usualCounter('packets')]);
  const found = (await kernel.list()).flatMap(({ revisions }) => revisions.map(({ place }) => place.revision));
  const carried = outcome.kind === 'loaded' ? outcome.carriedMaps : outcome.verifierLog;
  process.stdout.write(JSON.stringify({ carried, counted: counted.map(String), found }));
} else {
  for (let revision = 1; ; revision++) {
    process.stdout.write(`${revision}\n`);
    const place = { program: 'looped', revision };
    const carryFrom = { program: 'looped', revision: revision - 1 || 1 };
    await kernel.load(loadRequest('xdp-counter-v2', place, { carryFrom }));
    if (revision > 2) await kernel.unload({ program: 'looped', revision: revision - 2 });
  }
}
