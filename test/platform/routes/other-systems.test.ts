// What is said to the tools of macOS and Windows, word for word, and what is made of what they are documented to print. Neither
// system is to be had here.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EMPTY_RECORD, MAIN_TABLE, type WantedLink } from '../../../src/capabilities/network/link.ts';
import { planLink, recordAfter } from '../../../src/capabilities/network/link-plan.ts';
import { hostRouting } from '../../../src/platform/routes/host-routing.ts';
import { MacosLinks } from '../../../src/platform/routes/macos-links.ts';
import { WindowsLinks } from '../../../src/platform/routes/windows-links.ts';
import { type Answer, commandRecorder } from '../../fixtures/command-recorder.ts';

const WANTED: WantedLink = {
  interface: 'utun3',
  mtu: 1380,
  up: true,
  addresses: ['10.42.0.7/16', 'fd42::7/64'],
  routes: [
    { prefix: '10.99.0.0/24', table: MAIN_TABLE },
    { prefix: 'fd99::/48', table: MAIN_TABLE },
  ],
  rules: [],
};

const IFCONFIG_NEW = 'utun3: flags=8010<POINTOPOINT,MULTICAST> mtu 1500\n';
const IFCONFIG_OLD = `utun3: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1380
\tinet 10.42.0.7 --> 10.42.0.7 netmask 0xffff0000
\tinet6 fe80::aede:48ff:fe00:1122%utun3 prefixlen 64 scopeid 0xf
\tinet6 fd42::7 prefixlen 64
\tinet 192.0.2.9 --> 192.0.2.9 netmask 0xffffffff
\tnd6 options=201<PERFORMNUD,DAD>
`;
const NETSTAT_4 = `Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.1.1        UGScg                 en0
10.42/16           utun3              USc                 utun3
10.42.0.7          10.42.0.7          UH                  utun3
10.99.0/24         utun3              USc                 utun3
172.16/12          utun3              USc                 utun3
198.51.100         utun3              USc                 utun3
224.0.0/4          link#15            UmCS                utun3
255.255.255.255/32 link#15            UCS                 utun3
`;
const NETSTAT_6 = `Routing tables

Internet6:
Destination                             Gateway                                 Flags               Netif Expire
default                                 fe80::%utun0                            UGcIg               utun0
fd42::/64                               fe80::aede:48ff:fe00:1122%utun3         Uc                  utun3
fd42::7                                 link#15                                 UHL                   lo0
fe80::%utun3/64                         fe80::aede:48ff:fe00:1122%utun3         UcI                 utun3
ff00::/8                                fe80::aede:48ff:fe00:1122%utun3         UmCI                utun3
`;

const macos = (ifconfig: Answer) => (line: string) => {
  if (line.startsWith('ifconfig')) return ifconfig;
  return { stdout: line.endsWith('inet6') ? NETSTAT_6 : NETSTAT_4 };
};

describe('links, macOS', () => {
  it('are set by ifconfig and route', async () => {
    const reading = commandRecorder((line) => (line.startsWith('ifconfig') ? { stdout: IFCONFIG_NEW } : {}));
    const { steps } = planLink(WANTED, await new MacosLinks(reading.run).read('utun3'), EMPTY_RECORD);
    assert.deepEqual(reading.said, ['ifconfig utun3', 'netstat -rnW -f inet', 'netstat -rnW -f inet6']);
    const { run, said } = commandRecorder();
    assert.deepEqual(await new MacosLinks(run).apply('utun3', steps), []);
    assert.deepEqual(said, [
      'ifconfig utun3 mtu 1380',
      'ifconfig utun3 inet 10.42.0.7/16 10.42.0.7 alias',
      'ifconfig utun3 inet6 fd42::7/64 alias',
      'ifconfig utun3 up',
      'route -n add -inet 10.99.0.0/24 -interface utun3',
      'route -n add -inet6 fd99::/48 -interface utun3',
      'route -n add -inet 10.42.0.0/16 -interface utun3',
      'route -n add -inet6 fd42::/64 -interface utun3',
    ]);
  });

  it('are read, and only what the record has is taken away', async () => {
    const links = new MacosLinks(commandRecorder(macos({ stdout: IFCONFIG_OLD })).run);
    const found = await links.read('utun3');
    assert.deepEqual([found.state, found.mtu, found.rules], ['up', 1380, []]);
    assert.deepEqual(
      [...found.addresses],
      [
        ['10.42.0.7/16', 'unknown'],
        ['192.0.2.9/32', 'unknown'],
        ['fe80::aede:48ff:fe00:1122/64', 'system'],
        ['fd42::7/64', 'unknown'],
      ],
    );
    assert.deepEqual(
      found.routes.map(({ origin, prefix }) => `${prefix} ${origin}`),
      [
        '10.42.0.0/16 unknown',
        '10.42.0.7/32 system',
        '10.99.0.0/24 unknown',
        '172.16.0.0/12 unknown',
        '198.51.100.0/24 unknown',
        'fd42::/64 unknown',
      ],
    );
    const record = {
      ...EMPTY_RECORD,
      addresses: ['10.42.0.7/16'],
      routes: [{ prefix: '172.16.0.0/12', table: MAIN_TABLE }],
    };
    const nothing = { ...WANTED, mtu: undefined, up: false, addresses: [], routes: [] };
    const { foreign, steps } = planLink(nothing, found, record);
    assert.deepEqual(foreign.addresses, ['192.0.2.9/32', 'fd42::7/64']);
    const { run, said } = commandRecorder();
    await new MacosLinks(run).apply('utun3', steps);
    assert.deepEqual(said, [
      'route -n delete -inet 172.16.0.0/12 -interface utun3',
      'ifconfig utun3 inet 10.42.0.7 -alias',
    ]);
    const after = recordAfter(record, found, [{ kind: 'add_route', route: WANTED.routes[0]! }], links.marksRoutes);
    assert.deepEqual(after.routes, [...record.routes, WANTED.routes[0]]);
  });

  it('say what is refused, though `route` ends well, and what the system has not', async () => {
    const route = { prefix: '10.0.0.0/8', table: MAIN_TABLE };
    const { run } = commandRecorder(() => ({ stderr: 'route: writing to routing socket: File exists' }));
    const refusals = await new MacosLinks(run).apply('utun3', [
      { kind: 'add_route', route },
      { kind: 'add_route', route: { ...route, table: 77 } },
    ]);
    assert.match(refusals[0]!.error.message, /route says "route: writing to routing socket: File exists"/);
    assert.match(refusals[1]!.error.message, /one routing table, and no rules/);
    const absent = commandRecorder(macos({ code: 1, stderr: 'ifconfig: interface utun9 does not exist' }));
    assert.equal((await new MacosLinks(absent.run).read('utun9')).state, 'absent');
    const broken = commandRecorder(() => ({ code: 1, stderr: 'ifconfig: socket' }));
    await assert.rejects(new MacosLinks(broken.run).read('utun3'), /ifconfig utun3 failed: ifconfig: socket/);
  });
});

describe('links, Windows', () => {
  const name = 'wg0';
  const windows = (found: object | null) => commandRecorder(() => ({ stdout: JSON.stringify(found) }));
  const bare = { guid: '{A}', status: 'Up', addresses: [], routes: [] };
  const mtu = [
    { family: 'IPv4', value: 1420 },
    { family: 'IPv6', value: 1420 },
  ];

  it('are set by netsh, until the next boot', async () => {
    const found = await new WindowsLinks(windows({ ...bare, mtu, status: 'Down' }).run).read(name);
    const { steps } = planLink({ ...WANTED, interface: name }, found, EMPTY_RECORD);
    const { run, said } = commandRecorder();
    assert.deepEqual(await new WindowsLinks(run).apply(name, steps), []);
    assert.deepEqual(said, [
      'netsh interface ipv4 set subinterface wg0 mtu=1380 store=active',
      'netsh interface ipv6 set subinterface wg0 mtu=1380 store=active',
      'netsh interface ipv4 add address name=wg0 address=10.42.0.7/16 store=active',
      'netsh interface ipv6 add address interface=wg0 address=fd42::7/64 store=active',
      'netsh interface set interface name=wg0 admin=enabled',
      'netsh interface ipv4 add route prefix=10.99.0.0/24 interface=wg0 store=active',
      'netsh interface ipv6 add route prefix=fd99::/48 interface=wg0 store=active',
    ]);
  });

  it('are read as JSON, and only what the record has is taken away', async () => {
    const { run, said } = windows({
      ...bare,
      mtu: [...mtu.slice(1), { family: 'IPv4', value: 1500 }],
      addresses: [
        { address: '10.42.0.7', length: 16, origin: 'Manual' },
        { address: 'fd42::7', length: 64, origin: 'Manual' },
        { address: 'fe80::1%12', length: 64, origin: 'WellKnown' },
      ],
      routes: [
        { prefix: '10.42.0.0/16', hop: '0.0.0.0', protocol: 'Local' },
        { prefix: '10.99.0.0/24', hop: '0.0.0.0', protocol: 'NetMgmt' },
        { prefix: '172.16.0.0/12', hop: '10.42.0.1', protocol: 'NetMgmt' },
        { prefix: '224.0.0.0/4', hop: '0.0.0.0', protocol: 'Local' },
        { prefix: 'fd99::/48', hop: '::', protocol: 'NetMgmt' },
      ],
    });
    const found = await new WindowsLinks(run).read(name);
    assert.match(said[0]!, /^powershell\.exe -NoProfile -NonInteractive -Command \$a = Get-NetAdapter -Name 'wg0' /);
    assert.deepEqual([found.state, found.identity, found.mtu], ['up', '{A}', 0]);
    assert.deepEqual(
      found.routes.map(({ origin }) => origin),
      ['system', 'unknown', 'foreign', 'unknown'],
    );
    const record = { identity: '{A}', addresses: ['10.42.0.7/16'], routes: [...WANTED.routes], rules: [] };
    const nothing = { ...WANTED, interface: name, mtu: undefined, up: false, addresses: [], routes: [] };
    const undo = commandRecorder();
    await new WindowsLinks(undo.run).apply(name, planLink(nothing, found, record).steps);
    assert.deepEqual(undo.said, [
      'netsh interface ipv4 delete route prefix=10.99.0.0/24 interface=wg0 store=active',
      'netsh interface ipv6 delete route prefix=fd99::/48 interface=wg0 store=active',
      'netsh interface ipv4 delete address name=wg0 address=10.42.0.7 store=active',
    ]);
    // Made anew under its name: nothing of the record is about it.
    assert.deepEqual(planLink(nothing, found, { ...record, identity: '{B}' }).steps, []);
  });

  it('may be absent, or refuse', async () => {
    assert.equal((await new WindowsLinks(windows(null).run).read(name)).state, 'absent');
    const { run } = commandRecorder(() => ({ code: 1, stdout: 'The parameter is incorrect.' }));
    const [refusal] = await new WindowsLinks(run).apply(name, [{ kind: 'mtu', mtu: 1380 }]);
    assert.match(refusal!.error.message, /netsh says "The parameter is incorrect\."/);
    await assert.rejects(new WindowsLinks(run).read(name), /"wg0" can't be read/);
  });
});

describe('routing of a host', () => {
  it('passes no packets on but on Linux, and is nowhere else', async () => {
    const { run } = commandRecorder();
    for (const platform of ['darwin', 'win32'] as const) {
      const { firewall, links, sysctls } = hostRouting(run, platform);
      assert.equal(links.hasRules, false);
      assert.equal(await firewall.apply('wg0', undefined), false);
      assert.equal(await firewall.othersForward(), false);
      assert.equal(await sysctls.read('net/ipv4/ip_forward'), undefined);
      await assert.rejects(
        firewall.apply('wg0', { masquerade: ['10.0.0.0/8'], replyMark: undefined }),
        /on Linux only/,
      );
      await assert.rejects(sysctls.ensure('net/ipv4/ip_forward', '1'), /on Linux only/);
    }
    assert.equal(hostRouting(run, 'linux').links.hasRules, true);
    assert.throws(() => hostRouting(run, 'aix'), /not on aix/);
  });
});
