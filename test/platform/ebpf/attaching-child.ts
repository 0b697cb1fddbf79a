// Attaches, exchanges and detaches as fast as it can until it is killed: `node attaching-child.ts FOLDER PROGRAMS`. Functions are
// those that are pinned in the folder PROGRAMS: "xdp-0", "tc-1" and so on; "clsact-…" is attached without TCX.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { AttachPoint } from '../../../src/capabilities/programs/ports.ts';
import { Attachments } from '../../../src/platform/ebpf/attachments.ts';
import { openPin, programInfo } from '../../../src/platform/ebpf/bpf-syscall.ts';

const [folder = '', programs = ''] = process.argv.slice(2);

const POINTS: Readonly<Record<string, AttachPoint>> = {
  xdp: { kind: 'xdp', interface: 'in0', mode: 'auto' },
  tc: { kind: 'tc', interface: 'in0', direction: 'ingress' },
  clsact: { kind: 'tc', interface: 'in0', direction: 'ingress' },
  raw: { kind: 'raw_tracepoint', name: 'sched_process_exit' },
  perf: { kind: 'perf', event: 'cpu-clock', hz: 1 },
};
const TYPES = { xdp: 'xdp', tc: 'tc', clsact: 'tc', raw: 'raw_tracepoint', perf: 'perf_event' } as const;

const orders = readdirSync(programs).map((name) => {
  const kind = name.split('-')[0] as keyof typeof TYPES;
  const { fd } = openPin(join(programs, name))!;
  const loaded = { name, fd, id: programInfo(fd).id, expectedAttachType: 0 };
  const attachments = new Attachments({ withoutTcx: kind === 'clsact' });
  return { kind, attachments, task: { function: loaded, type: TYPES[kind], point: POINTS[kind]! } };
});

process.stdout.write('ready\n');
for (let turn = 0; ; turn++) {
  for (const { attachments, kind, task } of orders) {
    attachments.attach(join(folder, kind), task);
    if ((turn + task.function.id) % 3 === 0) attachments.detach(join(folder, kind));
  }
}
