import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { ProgramType } from '../../../src/capabilities/programs/ports.ts';
import type { AttachTask } from '../../../src/platform/ebpf/attach-task.ts';
import { Attachments } from '../../../src/platform/ebpf/attachments.ts';
import { failsWith } from '../../contract/kernel-contract.ts';
import { KernelLab, kernelLabMissing, until } from '../../fixtures/bpf/kernel-lab.ts';
import { programMissing } from '../../fixtures/netns.ts';
import { LoadedObject } from './loaded-object.ts';

/** Makes sockets: a UDP one that sends a datagram to itself, and a connection of TCP to each port. Tells how each went. */
const CLIENT = `
const dgram = require('node:dgram');
const net = require('node:net');
const socket = dgram.createSocket('udp4');
socket.bind(0, '127.0.0.1', () => socket.send('x', socket.address().port, '127.0.0.1'));
socket.on('message', () => {
  socket.close();
  next(process.argv.slice(1).map(Number));
});
function next([port, ...rest]) {
  if (port === undefined) return;
  const connection = net.connect(port, '127.0.0.1');
  connection.on('error', (error) => { process.stdout.write(error.code + '\\n'); next(rest); });
}
`;

const missing = kernelLabMissing() ?? programMissing('bpftool', 'bpftool') ?? false;

describe('attachments at control groups', { skip: missing }, () => {
  const attachments = new Attachments();
  let lab: KernelLab;
  let folder: string;
  before(async () => {
    lab = await KernelLab.create();
    await lab.receiver.ip('link', 'set', 'lo', 'up');
    folder = join(lab.pins, 'links');
    mkdirSync(folder);
  });
  after(async () => await lab[Symbol.asyncDispose]());
  afterEach(() => {
    for (const { slot } of attachments.list(folder)) attachments.detach(at(slot));
    assert.deepEqual(readdirSync(folder), []);
  });
  const at = (slot = 'main') => join(folder, slot);
  const task = (object: LoadedObject, type: ProgramType, name?: string, path = lab.cgroup): AttachTask => ({
    function: object.function(name),
    type,
    point: { kind: 'cgroup', path },
  });
  const client = async (...ports: readonly number[]) => {
    return await lab.inCgroup(process.execPath, '-e', CLIENT, ...ports.map(String));
  };
  const packets = (object: LoadedObject, key = 0) => object.number('counters', key);

  test('skb: counts each direction by itself, and changes over', async () => {
    using first = new LoadedObject('cgroup-skb');
    using second = new LoadedObject('cgroup-skb');
    const incoming = attachments.attach(at('in'), task(first, 'cgroup_skb', 'count_in'));
    const outgoing = attachments.attach(at('out'), task(first, 'cgroup_skb', 'count_out'));
    assert.deepEqual(attachments.list(folder), [incoming, outgoing]);
    await client();
    assert.deepEqual([packets(first, 0), packets(first, 1)], [1n, 1n]);
    const replaced = attachments.replace(at('out'), task(second, 'cgroup_skb', 'count_out'));
    assert.equal(replaced.linkId, outgoing.linkId);
    await client();
    assert.deepEqual([packets(first, 0), packets(first, 1)], [2n, 1n]);
    assert.deepEqual([packets(second, 0), packets(second, 1)], [0n, 1n]);
    // The other direction is another place.
    const wrong = task(second, 'cgroup_skb', 'count_in');
    assert.throws(() => attachments.replace(at('out'), wrong), failsWith('wrong_state', lab.cgroup));
  });

  test('connect: refuses connections to a port', async () => {
    using checker = new LoadedObject('cgroup-connect', { refused_port: Buffer.from([81, 0]) });
    attachments.attach(at(), task(checker, 'cgroup_sock_addr'));
    assert.deepEqual((await client(81, 82)).trim().split('\n'), ['EPERM', 'ECONNREFUSED']);
    assert.deepEqual([packets(checker), checker.number('counters', 0, 8)], [2n, 1n]);
    attachments.detach(at());
    assert.deepEqual((await client(81)).trim(), 'ECONNREFUSED');
  });

  test('sock: counts sockets that are made', async () => {
    using counter = new LoadedObject('cgroup-sock');
    attachments.attach(at(), task(counter, 'cgroup_sock'));
    await client(81);
    assert.equal(packets(counter), 2n);
  });

  test('any number runs at one group', async () => {
    using first = new LoadedObject('cgroup-sock');
    using second = new LoadedObject('cgroup-sock');
    attachments.attach(at('first'), task(first, 'cgroup_sock'));
    attachments.attach(at('second'), task(second, 'cgroup_sock'));
    await client();
    assert.deepEqual([packets(first), packets(second)], [1n, 1n]);
  });

  test('leaves alone who takes no other beside it', async () => {
    using theirs = new LoadedObject('cgroup-sock');
    using ours = new LoadedObject('cgroup-sock');
    const there = [lab.cgroup, 'sock_create', 'id', String(theirs.function().id)] as const;
    await lab.inReceiver('bpftool', 'cgroup', 'attach', ...there);
    try {
      const attach = () => attachments.attach(at(), task(ours, 'cgroup_sock'));
      assert.throws(attach, failsWith('already_exists', lab.cgroup));
      assert.deepEqual(attachments.list(folder), []);
      await client();
      assert.deepEqual([packets(theirs), packets(ours)], [1n, 0n]);
    } finally {
      await lab.inReceiver('bpftool', 'cgroup', 'detach', ...there);
    }
  });

  test('sees that a group is gone, and comes to the next one of its name', async () => {
    using counter = new LoadedObject('cgroup-sock');
    const order = task(counter, 'cgroup_sock');
    const before = attachments.attach(at(), order);
    await lab.renewCgroup();
    // The kernel gets round to it a little later.
    await until('the group to be gone', () => attachments.list(folder)[0]?.gone === true);
    assert.throws(() => attachments.replace(at(), order), failsWith('not_found', lab.cgroup));
    const again = attachments.attach(at(), order);
    assert.notEqual(again.linkId, before.linkId);
    assert.deepEqual(attachments.list(folder), [again]);
    await client();
    assert.equal(packets(counter), 1n);
  });

  test('names what is no control group, or is not there', () => {
    using counter = new LoadedObject('cgroup-sock');
    const absent = join(lab.cgroup, 'absent');
    const at_ = (path: string) => () => attachments.attach(at(), task(counter, 'cgroup_sock', undefined, path));
    assert.throws(at_(absent), failsWith('not_found', absent));
    assert.throws(at_('/tmp'), failsWith('invalid', '/tmp is no control group'));
    assert.throws(at_('/etc/passwd'), failsWith('not_found', '/etc/passwd'));
    assert.deepEqual(attachments.list(folder), []);
  });
});
