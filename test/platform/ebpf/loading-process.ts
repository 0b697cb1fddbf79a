// A process of its own that loads, for the tests of kills and of missing privileges: `loading-process.ts MOUNT-POINT loop|support`.
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { BpfKernel } from '../../../src/platform/ebpf/bpf-kernel.ts';
import { loadRequest } from '../../fixtures/bpf-host.ts';

const [mountPoint = '', what] = process.argv.slice(2);
const kernel = new BpfKernel({ instanceId: 'instance-1', log: silentLogger, mountPoint });

if (what === 'support') {
  const support = await kernel.support();
  const load = await kernel.load(loadRequest('xdp-counter', { program: 'p', revision: 1 })).then(
    ({ kind }) => kind,
    (error: unknown) => (error instanceof LonglineError ? error.reason : String(error)),
  );
  process.stdout.write(JSON.stringify({ list: await kernel.list(), load, support }));
} else {
  for (let revision = 1; ; revision++) {
    process.stdout.write(`${revision}\n`);
    const place = { program: 'looped', revision };
    const carryFrom = { program: 'looped', revision: revision - 1 || 1 };
    await kernel.load(loadRequest('xdp-counter-v2', place, { carryFrom }));
    if (revision > 2) await kernel.unload({ program: 'looped', revision: revision - 2 });
  }
}
