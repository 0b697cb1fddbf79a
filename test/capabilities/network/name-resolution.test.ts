import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NameResolution, NO_NAME_RESOLUTION } from '../../../src/capabilities/network/name-resolution.ts';
import type { NameServers, NameServersProbe } from '../../../src/capabilities/network/ports.ts';
import { checkNetwork, type NetworkDraft } from '../../../src/core/network/network-spec.ts';
import { Killed, MemoryRecord } from '../../fixtures/memory-record.ts';

/** One way, as a host has it. */
class Way implements NameServers {
  readonly kind: NameServers['kind'];
  found: NameServersProbe;
  readonly set = new Map<string, string>();

  constructor(kind: NameServers['kind'], found: NameServersProbe['kind']) {
    this.kind = kind;
    this.found = found === 'missing' ? { kind: found, why: 'not installed' } : { kind: found };
  }

  async probe() {
    return this.found;
  }

  async apply(name: string, { domains, servers }: { servers: readonly string[]; domains: readonly string[] }) {
    this.set.set(name, [...servers, ...domains].join(' '));
    return [`by ${this.kind}`];
  }

  async remove(name: string) {
    this.set.delete(name);
  }
}

function spec(draft: Partial<NetworkDraft>) {
  const refuse = (field: string, description: string) => assert.fail(`${field}: ${description}`);
  return checkNetwork(
    { name: 'default', interface: 'wg0', peers: [], dns: ['10.0.0.1'], ...draft },
    refuse,
    () => undefined,
  );
}

function host() {
  const resolved = new Way('resolved', 'usable');
  const resolvconf = new Way('resolvconf', 'missing');
  const file = new Way('file', 'in_use');
  const record = new MemoryRecord(NO_NAME_RESOLUTION);
  return { resolved, resolvconf, file, record, dns: new NameResolution([resolved, resolvconf, file], record) };
}

describe('name resolution', () => {
  it('takes the first way that is in use, or the one that was named', async () => {
    const { dns, file, record, resolved } = host();
    assert.deepEqual(await dns.apply(spec({ dnsDomains: ['~.'] }), 'wg0'), ['by file']);
    assert.deepEqual([...file.set], [['wg0', '10.0.0.1 ~.']]);
    assert.deepEqual(record.value.used, { default: { kind: 'file', interface: 'wg0' } });
    await dns.apply(spec({ dnsBackend: 'resolved' }), 'wg0');
    assert.deepEqual([[...file.set], [...resolved.set]], [[], [['wg0', '10.0.0.1']]]);
    await dns.apply(spec({ dns: [] }), 'wg0');
    assert.deepEqual([resolved.set.size, record.value], [0, NO_NAME_RESOLUTION]);
  });

  it('keeps to what it uses, and follows an interface that has another name', async () => {
    const { dns, file, resolved } = host();
    resolved.found = { kind: 'in_use' };
    await dns.apply(spec({}), 'utun3');
    await dns.apply(spec({}), 'utun4');
    assert.deepEqual([...resolved.set.keys()], ['utun4']);
    resolved.found = { kind: 'missing', why: 'it ended' };
    await dns.apply(spec({}), 'utun4');
    resolved.found = { kind: 'in_use' };
    await dns.apply(spec({}), 'utun4');
    assert.deepEqual([[...resolved.set.keys()], [...file.set.keys()]], [[], ['utun4']]);
  });

  it('says what it looked for', async () => {
    const { dns, file } = host();
    await assert.rejects(
      dns.apply(spec({ dnsBackend: 'resolvconf' }), 'wg0'),
      /dns can't be set: resolvconf: not installed$/,
    );
    await assert.rejects(dns.apply(spec({ dnsBackend: 'dnsmasq' }), 'wg0'), /there is no "dnsmasq" on this system/);
    file.found = { kind: 'missing', why: 'read-only' };
    await assert.rejects(
      dns.apply(spec({}), 'wg0'),
      /resolved: nobody on this host asks by it; resolvconf: not installed; file: read-only/,
    );
  });

  it('can be killed around any record, and takes away what it set', async () => {
    for (const when of ['before', 'after'] as const) {
      for (const write of [1, 2, 3]) {
        const { dns, file, record, resolved } = host();
        record.start(when, write);
        const life = async () => {
          await dns.apply(spec({}), 'wg0');
          await dns.apply(spec({ dnsBackend: 'resolved' }), 'wg0');
          await dns.remove('default');
        };
        await assert.rejects(life(), Killed);
        record.start();
        await dns.remove('default');
        assert.deepEqual(
          [file.set.size, resolved.set.size, record.value],
          [0, 0, NO_NAME_RESOLUTION],
          `${when} ${write}`,
        );
      }
    }
  });
});
