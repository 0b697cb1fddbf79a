import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Forwarding,
  type ForwardingRecord,
  NO_FORWARDING,
  wantedForwarding,
} from '../../../src/capabilities/network/forwarding.ts';
import type { Firewall, FirewallRules, Sysctls } from '../../../src/capabilities/network/ports.ts';
import { checkNetwork, type NetworkDraft } from '../../../src/core/network/network-spec.ts';
import type { StoredRecord } from '../../../src/core/stored-record.ts';

const IPV4 = 'net/ipv4/ip_forward';
const IPV6 = 'net/ipv6/conf/all/forwarding';

/** A host that can be killed before its n-th write of anything. */
class Host {
  readonly settings = new Map([
    ['kernel/random/boot_id', 'boot-1'],
    [IPV4, '0'],
    [IPV6, '0'],
  ]);
  readonly tables = new Map<string, FirewallRules>();
  stored: ForwardingRecord = NO_FORWARDING;
  othersForward = false;
  writesLeft = Number.POSITIVE_INFINITY;
  writes = 0;

  #write(): void {
    if (this.writesLeft-- <= 0) throw new Error('killed');
    this.writes += 1;
  }

  /** A new process. */
  start(): Forwarding {
    this.writesLeft = Number.POSITIVE_INFINITY;
    const sysctls: Sysctls = {
      read: async (key) => this.settings.get(key),
      ensure: async (key, value) => {
        if (this.settings.get(key) === value) return false;
        this.#write();
        this.settings.set(key, value);
        return true;
      },
    };
    const firewall: Firewall = {
      apply: async (name, rules) => {
        if (JSON.stringify(this.tables.get(name)) === JSON.stringify(rules)) return false;
        this.#write();
        if (rules === undefined) this.tables.delete(name);
        else this.tables.set(name, rules);
        return true;
      },
      othersForward: async () => this.othersForward,
    };
    const record: StoredRecord<ForwardingRecord> = {
      read: async () => structuredClone(this.stored),
      write: async (next) => {
        this.#write();
        this.stored = next;
      },
    };
    return new Forwarding(firewall, sysctls, record);
  }
}

function wanted(draft: Partial<NetworkDraft>) {
  const whole = { name: 'default', interface: 'wg0', peers: [], ...draft };
  const refuse = (field: string, description: string) => assert.fail(`${field}: ${description}`);
  return wantedForwarding(checkNetwork(whole, refuse, () => undefined));
}

const BOTH = { addresses: ['10.0.0.1/24', 'fd00::1/64'], natSubnets: ['172.17.0.0/16'] };

describe('forwarding', () => {
  it('follows from a spec', () => {
    assert.deepEqual(wanted({ addresses: ['10.0.0.1/24'] }), { switches: [], rules: undefined });
    assert.deepEqual(wanted(BOTH), {
      switches: [IPV4, IPV6],
      rules: { masquerade: ['172.17.0.0/16'], replyMark: undefined },
    });
    assert.deepEqual(wanted({ addresses: ['10.0.0.1/24'], forward: true }), { switches: [IPV4], rules: undefined });
    const full = { fwmark: 7, peers: [{ publicKey: Buffer.alloc(32, 1).toString('base64'), allowedIps: ['::/0'] }] };
    assert.deepEqual(wanted(full), { switches: [], rules: { masquerade: [], replyMark: 7 } });
    assert.deepEqual(wanted({ ...full, table: '7' }).rules, undefined);
  });

  it('turns switches on for whoever is first, and off behind the last', async () => {
    const host = new Host();
    const forwarding = host.start();
    const [note] = await forwarding.apply('a', 'wg0', wanted(BOTH));
    assert.match(note!, /accept_ra=2/);
    assert.deepEqual(await forwarding.apply('b', 'wg1', wanted(BOTH)), []);
    const { writes } = host;
    await forwarding.apply('b', 'wg1', wanted(BOTH));
    assert.equal(host.writes, writes, 'nothing is written that is so already');
    await forwarding.remove('a', 'wg0');
    assert.deepEqual([host.settings.get(IPV4), host.tables.size], ['1', 1]);
    await forwarding.remove('b', 'wg1');
    assert.deepEqual([host.settings.get(IPV4), host.settings.get(IPV6), host.tables.size], ['0', '0', 0]);
    assert.deepEqual(host.stored, NO_FORWARDING);
  });

  it('leaves on what was on, and what somebody else has come to rely on', async () => {
    const host = new Host();
    host.settings.set(IPV6, '1');
    const forwarding = host.start();
    await forwarding.apply('a', 'wg0', wanted(BOTH));
    await forwarding.remove('a', 'wg0');
    assert.deepEqual([host.settings.get(IPV4), host.settings.get(IPV6)], ['0', '1']);
    await forwarding.apply('a', 'wg0', wanted(BOTH));
    host.othersForward = true;
    await forwarding.remove('a', 'wg0');
    assert.deepEqual([host.settings.get(IPV4), host.stored], ['1', NO_FORWARDING]);
  });

  it('takes nothing from before a boot for its own', async () => {
    const host = new Host();
    await host.start().apply('a', 'wg0', wanted(BOTH));
    host.settings.set('kernel/random/boot_id', 'boot-2');
    const forwarding = host.start();
    await forwarding.apply('a', 'wg0', wanted(BOTH));
    await forwarding.remove('a', 'wg0');
    assert.equal(host.settings.get(IPV4), '1', 'the host itself has turned it on since');
  });

  it('can be killed before any write and begun anew', async () => {
    for (let kill = 0; ; kill++) {
      const host = new Host();
      const killed = async (work: (forwarding: Forwarding) => Promise<unknown>) => {
        const forwarding = host.start();
        host.writesLeft = kill;
        const died = await work(forwarding).then(
          () => false,
          (error: Error) => error.message === 'killed',
        );
        await work(host.start());
        return died;
      };
      const diedUp = await killed((forwarding) => forwarding.apply('a', 'wg0', wanted(BOTH)));
      assert.deepEqual([host.settings.get(IPV4), host.settings.get(IPV6), host.tables.size], ['1', '1', 1]);
      const diedDown = await killed((forwarding) => forwarding.remove('a', 'wg0'));
      assert.deepEqual([host.settings.get(IPV4), host.settings.get(IPV6), host.tables.size], ['0', '0', 0]);
      assert.deepEqual(host.stored, NO_FORWARDING);
      if (!diedUp && !diedDown) return;
    }
  });
});
