import { silentLogger } from '../../src/core/logger.ts';
import { Attachments } from '../../src/platform/ebpf/attachments.ts';
import { BpfKernel } from '../../src/platform/ebpf/bpf-kernel.ts';
import { KernelLab, kernelLabMissing } from '../fixtures/bpf/kernel-lab.ts';
import { kernelContract } from './kernel-contract.ts';

for (const withoutTcx of [false, true]) {
  kernelContract(
    withoutTcx ? 'of this host, as if it were older' : 'of this host',
    async () => {
      const lab = await KernelLab.create();
      const attachments = new Attachments({ withoutTcx });
      const open = (instanceId: string) =>
        new BpfKernel({ instanceId, mountPoint: lab.pins, log: silentLogger, attachments });
      const kernel = open('agent');
      const other = open('other');
      return {
        kernel,
        other,
        interfaces: lab.interfaces,
        cgroup: lab.cgroup,
        send: (packets) => lab.send(packets),
        renewInterface: () => lab.renewInterface(),
        renewCgroup: () => lab.renewCgroup(),
        [Symbol.asyncDispose]: async () => {
          await kernel[Symbol.asyncDispose]();
          await other[Symbol.asyncDispose]();
          await lab[Symbol.asyncDispose]();
        },
      };
    },
    { skip: kernelLabMissing() ?? false },
  );
}
