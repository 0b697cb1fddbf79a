import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FirewallRules } from '../../../src/capabilities/network/ports.ts';
import type { RunCommand } from '../../../src/core/command.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { NftFirewall } from '../../../src/platform/routes/nft-firewall.ts';
import { commandRecorder } from '../../fixtures/command-recorder.ts';
import { labCommands } from '../../fixtures/lab-system.ts';
import { type LabHost, NetworkLab, netnsMissing, programMissing } from '../../fixtures/netns.ts';

const ALL: FirewallRules = {
  masquerade: ['172.17.0.0/16', '172.18.0.0/16', '192.0.2.9/32', '0.0.0.0/0', 'fd42::/48', '::/0'],
  replyMark: 8192,
};

describe('a firewall that can not be asked', () => {
  it('is taken for one that passes packets on for others', async () => {
    const run: RunCommand = async () => {
      throw new LonglineError('unsupported', 'there is no program "nft" on this host');
    };
    const firewall = new NftFirewall(run, []);
    assert.equal(await firewall.apply('wg0', undefined), false);
    assert.equal(await firewall.othersForward(), true);
  });
});

describe('nftables', { skip: netnsMissing() ?? programMissing('nft', 'nftables') }, () => {
  it('writes its table once, again when it differs, and takes it away without touching others', async () => {
    await using lab = await NetworkLab.create(1);
    const [host] = lab.hosts as [LabHost];
    const firewall = new NftFirewall(labCommands(host), []);
    await host.run('nft', 'add table inet others');
    assert.equal(await firewall.apply('wg0', undefined), false);
    assert.equal(await firewall.apply('wg0', ALL), true);
    assert.equal(await firewall.apply('wg0', ALL), false);
    await host.run('nft', 'delete chain inet longline_wg0 replies');
    assert.equal(await firewall.apply('wg0', ALL), true);
    assert.equal(await firewall.apply('wg0', ALL), false);
    const less = { masquerade: ALL.masquerade.slice(0, 1), replyMark: undefined };
    assert.equal(await firewall.apply('wg-1.x', less), true);
    assert.equal(await firewall.apply('wg0', less), true);
    assert.doesNotMatch(await host.run('nft', 'list table inet longline_wg0'), /fd42|ct mark/);
    assert.equal(await firewall.othersForward(), false);
    assert.equal(await firewall.apply('wg0', undefined), true);
    assert.equal(await firewall.apply('wg-1.x', undefined), true);
    assert.equal(await host.run('nft', 'list tables'), 'table inet others\n');
    await host.run('nft', 'add chain inet others pass { type filter hook forward priority 0; }');
    assert.equal(await firewall.othersForward(), true);
  });

  it('lets a subnet that the far side knows nothing of reach it under the address of the interface', async (t) => {
    await using lab = await NetworkLab.create(3);
    const [container, router, far] = lab.hosts as [LabHost, LabHost, LabHost];
    await router.ip(...'link add wg0 type veth peer name wg0 netns'.split(' '), far.namespace);
    for (const [host, ...lines] of [
      [container, 'addr add 172.17.0.2/16 dev eth0', 'route add 10.42.0.0/16 via 172.17.0.1 src 172.17.0.2'],
      [router, 'addr add 172.17.0.1/16 dev eth0', 'addr add 10.42.0.1/24 dev wg0', 'link set wg0 up'],
      [far, 'addr add 10.42.0.2/24 dev wg0', 'link set wg0 up', 'route add blackhole 172.17.0.0/16'],
    ] as const) {
      for (const line of lines) await host.ip(...line.split(' '));
    }
    await router.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
    const ping = () => container.run('busybox', 'ping', '-c', '1', '-W', '1', '10.42.0.2');
    await assert.rejects(ping());
    const firewall = new NftFirewall(labCommands(router), []);
    await firewall.apply('wg0', { masquerade: ['172.17.0.0/16'], replyMark: undefined });
    // The first packet may wait for its neighbour's address.
    while (typeof (await ping().catch((error: Error) => error)) !== 'string') t.signal.throwIfAborted();
    assert.match(await far.run('cat', '/proc/net/arp'), /10\.42\.0\.1/);
  });
});

describe('nftables, to the byte', () => {
  it('writes one transaction', async () => {
    const { run, said } = commandRecorder((line) => {
      return line.includes('list') ? { code: 1, stderr: 'Error: No such file or directory' } : {};
    });
    await new NftFirewall(run, []).apply('wg0', { masquerade: ['10.1.0.0/24'], replyMark: undefined });
    const own = '"family":"inet","table":"longline_wg0"';
    const made = '{"table":{"family":"inet","name":"longline_wg0"}}';
    assert.deepEqual(said, [
      'nft -j list table inet longline_wg0',
      `nft -j -f - < {"nftables":[{"add":${made}},{"delete":${made}},{"add":${made}},` +
        `{"add":{"chain":{${own},"name":"leave","type":"nat","hook":"postrouting","prio":100,"policy":"accept"}}},` +
        `{"add":{"rule":{${own},"chain":"leave","expr":[{"match":{"op":"!=","left":{"meta":{"key":"iifname"}},"right":"wg0"}},` +
        '{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"wg0"}},' +
        '{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.1.0.0","len":24}}}},' +
        '{"masquerade":null}]}}}]}',
    ]);
  });

  it('does without nft as long as nothing is wanted of it', async () => {
    const run: RunCommand = async () => {
      throw new LonglineError('unsupported', 'there is no program "nft" on this host');
    };
    const firewall = new NftFirewall(run, []);
    assert.equal(await firewall.apply('wg0', undefined), false);
    await assert.rejects(firewall.apply('wg0', ALL), /there is no program "nft"/);
    const denied: RunCommand = async () => ({
      code: 1,
      stdout: '',
      stderr: 'Operation not permitted (you must be root)',
    });
    await assert.rejects(new NftFirewall(denied, []).apply('wg0', ALL), /CAP_NET_ADMIN is needed/);
  });
});
