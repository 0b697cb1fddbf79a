import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { Attachments } from '../../../src/platform/ebpf/attachments.ts';
import { failsWith } from '../../contract/kernel-contract.ts';
import { KernelLab, kernelLabMissing } from '../../fixtures/bpf/kernel-lab.ts';
import { LoadedObject } from './loaded-object.ts';

describe('attachments on the real kernel', { skip: kernelLabMissing() ?? false }, () => {
  const attachments = new Attachments();
  let lab: KernelLab;
  let folder: string;
  before(async () => {
    lab = await KernelLab.create();
    folder = join(lab.pins, 'links');
    mkdirSync(folder);
  });
  after(async () => await lab[Symbol.asyncDispose]());
  afterEach(() => {
    for (const { slot } of attachments.list(folder)) attachments.detach(join(folder, slot));
    assert.deepEqual(readdirSync(folder), []);
  });
  const at = (slot: string) => join(folder, slot);
  const xdp = (name: string, mode: 'auto' | 'native' | 'generic' = 'auto') =>
    ({ kind: 'xdp', interface: name, mode }) as const;

  test('xdp: counts every packet', async () => {
    using counter = new LoadedObject('xdp-counter');
    const task = { function: counter.function(), type: 'xdp', point: xdp('in0') } as const;
    const found = attachments.attach(at('main'), task);
    assert.equal(found.programId, counter.function().id);
    await lab.send(20);
    assert.equal(counter.number(), 20n);
    assert.deepEqual(attachments.list(folder), [found]);
    attachments.detach(at('main'));
    await lab.send(5);
    assert.equal(counter.number(), 20n);
    rmSync(at('main'), { force: true });
    await assert.rejects(async () => attachments.replace(at('main'), task), failsWith('not_found', 'main'));
  });
});
