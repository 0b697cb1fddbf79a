import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand } from '../../../deploy/dev/command.ts';
import type { TypeSupport } from '../../../src/capabilities/programs/ports.ts';
import { PROGRAM_TYPES } from '../../../src/core/programs/program-type.ts';
import { isAtomic } from '../../../src/platform/ebpf/attachments.ts';
import { readKernelFile, tracepointId } from '../../../src/platform/ebpf/kernel-files.ts';
import { probeTypes } from '../../../src/platform/ebpf/type-probes.ts';
import { failsWith } from '../../contract/kernel-contract.ts';
import { kernelLabMissing } from '../../fixtures/bpf/kernel-lab.ts';

const skip = kernelLabMissing() ?? false;

test('probes every type, gives reasons with a mend, and leaves nothing open or mounted', { skip }, () => {
  const first = probeTypes(isAtomic);
  const open = () => readdirSync('/proc/self/fd').length;
  // Others mount what they need meanwhile; only these two are looked into without being mounted.
  const mounts = () => readFileSync('/proc/self/mounts', 'utf8').match(/ (tracefs|securityfs) /g)?.length ?? 0;
  const before = [open(), mounts()];
  const second = probeTypes(isAtomic);
  assert.deepEqual([open(), mounts()], before);
  assert.deepEqual(second, first);
  assert.deepEqual(
    first.map(({ type }) => type),
    PROGRAM_TYPES,
  );
  const possible = first.filter(({ missing }) => missing === undefined).map(({ type }) => type);
  for (const type of ['xdp', 'tc', 'cgroup_skb', 'tracepoint', 'raw_tracepoint', 'perf_event', 'uprobe'] as const) {
    assert.ok(possible.includes(type), `${type}: ${first.find((one) => one.type === type)?.missing}`);
  }
  for (const { missing, type } of first) {
    if (missing !== undefined) assert.match(missing, /CONFIG_|CAP_|lsm=|mount /, `${type} has no mend`);
  }
});

test('says what a process without privileges lacks', { skip }, async () => {
  // What it is to import has to be loaded before it can be read no more.
  const script = `
    const { probeTypes } = await import(process.argv[1]);
    process.setgroups([]);
    process.setgid(65534);
    process.setuid(65534);
    process.stdout.write(JSON.stringify(probeTypes(() => true)));`;
  const module = join(import.meta.dirname, '../../../src/platform/ebpf/type-probes.ts');
  const argv = [process.execPath, '--input-type=module', '-e', script, module] as const;
  const { code, stderr, stdout } = await runCommand(argv, { timeoutMs: 60_000 });
  assert.equal(code, 0, stderr);
  for (const { missing, type } of JSON.parse(stdout) as readonly TypeSupport[]) {
    assert.match(missing ?? '', /CAP_BPF|CONFIG_/, `${type}: ${missing}`);
  }
});

test('finds tracepoints, mounted or not', { skip }, () => {
  assert.ok(tracepointId('sched', 'sched_switch') > 0);
  assert.throws(() => tracepointId('sched', 'no_such'), failsWith('not_found', 'sched:no_such'));
  assert.throws(() => tracepointId('no_such', 'sched_switch'), failsWith('not_found', 'no_such:sched_switch'));
  assert.equal(readKernelFile('tracefs', 'no_such'), undefined);
});
