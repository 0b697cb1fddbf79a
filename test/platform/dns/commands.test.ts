// What is said to systemd-resolved, resolvconf, scutil and netsh, word for word: none can be had here without changing the machine's
// own names, or at all. The first two were tried with it by hand.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { RunCommand } from '../../../src/core/command.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { DEFAULT_DNSMASQ, hostNameServers } from '../../../src/platform/dns/host-name-servers.ts';
import { NetshNameServers } from '../../../src/platform/dns/netsh.ts';
import { NO_RESOLV_FILE } from '../../../src/platform/dns/resolv-file.ts';
import { ResolvconfNameServers } from '../../../src/platform/dns/resolvconf.ts';
import { ResolvedNameServers } from '../../../src/platform/dns/resolved.ts';
import { ScutilNameServers } from '../../../src/platform/dns/scutil.ts';
import { commandRecorder } from '../../fixtures/command-recorder.ts';
import { MemoryRecord } from '../../fixtures/memory-record.ts';

const SPLIT = { servers: ['10.0.0.1', 'fd00::1'], domains: ['corp.example', '~int.example'] };

describe('systemd-resolved', () => {
  it('sets servers and domains of the interface, only what differs, and reverts', async () => {
    const shown: Record<string, string> = {
      'resolvectl dns wg0': 'Link 3 (wg0): 10.0.0.1 fd00::1\n',
      'resolvectl domain wg0': 'Link 3 (wg0):\n',
      'resolvectl default-route wg0': 'Link 3 (wg0): yes\n',
    };
    const { run, said } = commandRecorder((line) => ({ stdout: shown[line] ?? '' }));
    const resolved = new ResolvedNameServers(run);
    assert.deepEqual(await resolved.apply('wg0', SPLIT), []);
    await resolved.remove('wg0');
    assert.deepEqual(said, [
      'resolvectl dns wg0',
      'resolvectl domain wg0',
      'resolvectl domain wg0 corp.example ~int.example',
      'resolvectl default-route wg0',
      'resolvectl default-route wg0 no',
      'resolvectl revert wg0',
    ]);
  });

  it('takes all names where no domain is named', async () => {
    const { run, said } = commandRecorder((line) => ({
      stdout: line.endsWith('route wg0') ? 'Link 3 (wg0): yes' : '',
    }));
    await new ResolvedNameServers(run).apply('wg0', { ...SPLIT, domains: [] });
    assert.ok(said.includes('resolvectl domain wg0 ~.'));
    assert.equal(said.at(-1), 'resolvectl default-route wg0');
  });

  it('is in use where resolv.conf names it, and says why it is missing', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'longline-resolved-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const path = join(folder, 'resolv.conf');
    await writeFile(path, 'nameserver 127.0.0.53\n');
    const { run } = commandRecorder();
    assert.deepEqual(await new ResolvedNameServers(run, path).probe(), { kind: 'in_use' });
    await writeFile(path, 'nameserver 127.0.0.1\n');
    assert.deepEqual(await new ResolvedNameServers(run, path).probe(), { kind: 'usable' });
    const down = commandRecorder(() => ({ code: 1, stderr: 'Failed to get global data: Unit not found.' }));
    assert.deepEqual(await new ResolvedNameServers(down.run, path).probe(), {
      kind: 'missing',
      why: 'resolvectl dns: Failed to get global data: Unit not found.',
    });
  });

  it('forgets an interface that has gone, and fails for one that is somebody else’s', async () => {
    const gone = commandRecorder(() => ({ code: 1, stderr: 'Failed to resolve interface "wg0": No such device' }));
    await new ResolvedNameServers(gone.run).remove('wg0');
    const managed = commandRecorder(() => ({
      code: 1,
      stderr: 'Failed to set DNS configuration: Link wg0 is managed.',
    }));
    await assert.rejects(new ResolvedNameServers(managed.run).apply('wg0', SPLIT), /Link wg0 is managed/);
  });
});

describe('resolvconf', () => {
  const flavour = (text: string) => (line: string) => (line.endsWith('--version') ? { stdout: text } : {});

  it('gives openresolv servers for all names, or for domains alone', async () => {
    const { run, said } = commandRecorder(flavour('openresolv 3.12.0\n'));
    const resolvconf = new ResolvconfNameServers(run);
    assert.deepEqual(await resolvconf.apply('wg0', { ...SPLIT, domains: ['corp.example', '~.'] }), []);
    assert.match((await resolvconf.apply('wg0', SPLIT)).join(), /only to a local resolver/);
    await resolvconf.remove('wg0');
    assert.deepEqual(
      said.filter((line) => !line.endsWith('--version')),
      [
        'resolvconf -a tun.wg0 -m 0 -x < nameserver 10.0.0.1|nameserver fd00::1|search corp.example|',
        'resolvconf -a tun.wg0 -m 0 -p < nameserver 10.0.0.1|nameserver fd00::1|search corp.example int.example|',
        'resolvconf -d tun.wg0 -f',
      ],
    );
  });

  it("gives Debian's what it takes", async () => {
    const { run, said } = commandRecorder(flavour('Debian resolvconf 1.91\n'));
    const resolvconf = new ResolvconfNameServers(run);
    assert.match((await resolvconf.apply('wg0', SPLIT)).join(), /knows no domains/);
    await resolvconf.remove('wg0');
    assert.equal(
      said[1],
      'resolvconf -a tun.wg0 < nameserver 10.0.0.1|nameserver fd00::1|search corp.example int.example|',
    );
    assert.equal(said.at(-1), 'resolvconf -d tun.wg0');
  });

  it("does without systemd's alias, and without any", async () => {
    const alias = await new ResolvconfNameServers(commandRecorder(flavour('systemd 252\n')).run).probe();
    assert.deepEqual(alias, { kind: 'missing', why: "resolvconf is systemd-resolved's here" });
    const absent: RunCommand = async () => {
      throw new LonglineError('unsupported', 'there is no program "resolvconf" on this host');
    };
    assert.equal((await new ResolvconfNameServers(absent).probe()).kind, 'missing');
    const refused = commandRecorder((line) =>
      line.includes('-a') ? { code: 1, stderr: 'no space' } : { stdout: 'openresolv' },
    );
    await assert.rejects(
      new ResolvconfNameServers(refused.run).apply('wg0', SPLIT),
      /resolvconf -a tun\.wg0.*no space/,
    );
  });
});

describe('scutil', () => {
  const key = 'State:/Network/Service/longline-utun3/DNS';

  it('gets an entry in the dynamic store, once', async () => {
    let shown = '  No such key\n';
    const { run, said } = commandRecorder((line) => (line.includes('show') ? { stdout: shown } : {}));
    const scutil = new ScutilNameServers(run);
    assert.deepEqual(await scutil.probe(), { kind: 'in_use' });
    await scutil.apply('utun3', SPLIT);
    await scutil.apply('utun3', { servers: ['10.0.0.1'], domains: [] });
    await scutil.remove('utun3');
    shown = `<dictionary> {
  ServerAddresses : <array> {
    0 : 10.0.0.1
  }
  SupplementalMatchDomains : <array> {
    0 : 
  }
}
`;
    await scutil.apply('utun3', { servers: ['10.0.0.1'], domains: [] });
    await scutil.remove('utun3');
    assert.deepEqual(said, [
      'scutil < list State:/Network/Global/DNS|quit|',
      `scutil < show ${key}|quit|`,
      `scutil < d.init|d.add ServerAddresses * 10.0.0.1 fd00::1|d.add SearchDomains * corp.example|d.add SupplementalMatchDomains * corp.example int.example|set ${key}|quit|`,
      `scutil < show ${key}|quit|`,
      `scutil < d.init|d.add ServerAddresses * 10.0.0.1|d.add SupplementalMatchDomains * ""|set ${key}|quit|`,
      `scutil < show ${key}|quit|`,
      `scutil < show ${key}|quit|`,
      `scutil < show ${key}|quit|`,
      `scutil < remove ${key}|quit|`,
    ]);
  });

  it('fails if scutil complains, though it ends well', async () => {
    const { run } = commandRecorder((line) => (line.includes('set ') ? { stdout: '  Permission denied\n' } : {}));
    await assert.rejects(new ScutilNameServers(run).apply('utun3', SPLIT), /scutil: Permission denied/);
    const broken = commandRecorder(() => ({ code: 1, stderr: 'no configd' }));
    assert.deepEqual(await new ScutilNameServers(broken.run).probe(), { kind: 'missing', why: 'scutil: no configd' });
  });
});

describe('netsh', () => {
  it('sets servers of each family, only what differs', async () => {
    const { run, said } = commandRecorder((line) =>
      line.includes('IPv6') ? { stdout: 'fd00::1 fec0:0:0:ffff::1\r\n' } : {},
    );
    const netsh = new NetshNameServers(run);
    assert.deepEqual(await netsh.probe(), { kind: 'in_use' });
    const notes = await netsh.apply('wg0', { servers: ['10.0.0.1', 'fd00::1', '10.0.0.2'], domains: ['corp.example'] });
    assert.match(notes.join(), /for all names, and searches no domains/);
    await netsh.remove('wg0');
    assert.deepEqual(
      said.filter((line) => line.startsWith('netsh')),
      [
        'netsh interface ipv4 set dnsservers name=wg0 source=static address=10.0.0.1 register=none validate=no',
        'netsh interface ipv4 add dnsservers name=wg0 address=10.0.0.2 index=2 validate=no',
        'netsh interface ipv6 set dnsservers name=wg0 source=dhcp',
      ],
    );
    assert.match(said[0]!, /^powershell\.exe .*Get-DnsClientServerAddress -InterfaceAlias 'wg0' -AddressFamily IPv4/);
    const refused = commandRecorder((line) => (line.startsWith('netsh') ? { code: 1, stdout: 'access denied' } : {}));
    await assert.rejects(new NetshNameServers(refused.run).apply('wg0', SPLIT), /set dnsservers.*access denied/);
  });
});

describe('name servers of a host', () => {
  it('are set in the ways that the system has', () => {
    const record = new MemoryRecord(NO_RESOLV_FILE);
    const { run } = commandRecorder();
    const kinds = (platform: NodeJS.Platform) =>
      hostNameServers({ run, record, dnsmasq: DEFAULT_DNSMASQ, platform }).map(({ kind }) => kind);
    assert.deepEqual(kinds('linux'), ['resolved', 'resolvconf', 'file', 'dnsmasq']);
    assert.deepEqual([kinds('darwin'), kinds('win32'), kinds('aix')], [['scutil'], ['netsh'], []]);
  });
});
