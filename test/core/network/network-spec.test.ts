import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { wantedDevice } from '../../../src/capabilities/network/device.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { parseEndpoint } from '../../../src/core/network/endpoint.ts';
import { readNetworkFile } from '../../../src/core/network/network-file.ts';
import { checkNetwork, MAX_PEERS, type NetworkDraft, type PeerDraft } from '../../../src/core/network/network-spec.ts';
import { coveringPrefixes, parseInterfaceAddress, parsePrefix } from '../../../src/core/network/prefix.ts';
import { SecretKey } from '../../../src/core/wireguard-keys.ts';

const key = (n: number) => Buffer.alloc(32, n).toString('base64');
const peer = (n: number, more: Partial<PeerDraft> = {}): PeerDraft => ({ publicKey: key(n), ...more });

function check(draft: Partial<NetworkDraft>) {
  const refused = new Map<string, string>();
  const warned = new Map<string, string>();
  const whole = { name: 'default', interface: 'wg0', privateKeyPath: '/etc/key', peers: [], ...draft };
  const spec = checkNetwork(
    whole,
    (field, description) => refused.set(field, description),
    (field, description) => warned.set(field, description),
  );
  return { spec, refused, warned };
}

describe('network spec', () => {
  it('completes what is left out', () => {
    const { spec, refused } = check({ peers: [peer(1)] });
    assert.deepEqual([...refused], []);
    assert.equal(spec.mtu, 1420);
    assert.equal(spec.table, 'main');
    assert.equal(spec.listenPort, undefined);
    assert.deepEqual([spec.backend, spec.foreignPeers, spec.keyEpoch, spec.nextKeyEpoch], ['auto', 'keep', 0, 0]);
    assert.deepEqual(spec.peers[0]!.prefixes, []);
  });

  it('names every wrong field at once', () => {
    const { refused } = check({
      name: 'a b',
      interface: 'wg0/../x',
      backend: 'openvpn',
      foreignPeers: 'eat',
      privateKeyPath: key(7),
      mtu: 1279,
      listenPort: 0,
      table: '0',
      fwmark: -1,
      addresses: ['10.0.0.1/33'],
      dns: ['name'],
      dnsDomains: ['a..b', 'corp.example'],
      dnsBackend: 'hosts',
      natSubnets: ['172.17.0.0/16', '172.17.0.0/33'],
      routes: ['10.0.0.0/08'],
      peers: [
        peer(1, { endpoint: 'host', keepaliveSecs: 65_536, presharedKeyPath: 'psk' }),
        { publicKey: key(0) },
        peer(1, { allowedIps: ['10.0.0.0/8', '::ffff:1.2.3.4/128'] }),
        {},
      ],
    });
    assert.deepEqual([...refused.keys()].sort(), [
      'addresses[0]',
      'backend',
      'dns[0]',
      'dns_backend',
      'dns_domains[0]',
      'foreign_peers',
      'fwmark',
      'interface',
      'listen_port',
      'mtu',
      'name',
      'nat_subnets[1]',
      'peers[0].endpoint',
      'peers[0].persistent_keepalive_secs',
      'peers[0].preshared_key_path',
      'peers[1].public_key',
      'peers[2].allowed_ips[1]',
      'peers[2].public_key',
      'peers[3].public_key',
      'private_key_path',
      'routes[0]',
      'table',
    ]);
    assert.match(refused.get('peers[2].public_key')!, /also that of peers\[0\]/);
    assert.ok(![...refused.values()].some((text) => text.includes(key(7))), 'a key in place of its path is not shown');
  });

  it('says which peer has a prefix that two want', () => {
    const { spec, warned } = check({
      peers: [
        peer(1, { allowedIps: ['10.0.0.0/8', 'fd42:1::/48'] }),
        peer(2, { allowedIps: ['10.9.9.9/8', '10.1.0.0/16'] }),
        peer(3, { allowedIps: ['10.1.2.0/24'] }),
      ],
    });
    assert.deepEqual(
      spec.peers.map(({ prefixes }) => prefixes),
      [['fd42:1::/48'], ['10.0.0.0/8', '10.1.0.0/16'], ['10.1.2.0/24']],
    );
    assert.match(warned.get('peers[0].allowed_ips')!, /10\.0\.0\.0\/8 is also that of peers\[1\], which, being later/);
    assert.match(warned.get('peers[2].allowed_ips')!, /10\.1\.2\.0\/24 lies in 10\.1\.0\.0\/16 of peers\[1\]/);
  });

  it('takes as many peers as an interface holds, and no more', () => {
    const many = Array.from({ length: MAX_PEERS + 1 }, (_, n) => {
      const bytes = Buffer.alloc(32);
      bytes.writeUInt32LE(n + 1);
      return { publicKey: bytes.toString('base64') };
    });
    assert.deepEqual([...check({ peers: many.slice(1) }).refused], []);
    assert.match(check({ peers: many }).refused.get('peers')!, /65537 peers are too many; an interface holds 65536/);
  });

  it('brings addresses into the form that WireGuard reports', () => {
    assert.equal(parsePrefix('10.42.7.9/16'), '10.42.0.0/16');
    assert.equal(parsePrefix('10.42.7.9'), '10.42.7.9/32');
    assert.equal(parsePrefix('FD42:0001:0:0:0::9/48'), 'fd42:1::/48');
    assert.equal(parsePrefix('::/0'), '::/0');
    assert.equal(parsePrefix('1:0:0:2:0:0:0:3'), '1:0:0:2::3/128');
    assert.equal(parsePrefix('0:1::0:1'), '0:1::1/128');
    assert.equal(parseInterfaceAddress('10.42.7.9/16'), '10.42.7.9/16');
    for (const wrong of [
      '',
      '10.0.0',
      '010.0.0.1',
      '1::2::3',
      ':1::2',
      '1:2:3:4:5:6:7:8:9',
      '1:2:3:4:5:6:7::8',
      '::/129',
    ]) {
      assert.equal(parsePrefix(wrong), undefined, wrong);
    }
    assert.deepEqual([...coveringPrefixes('192.0.0.0/3', new Set([0, 1, 8]))], ['128.0.0.0/1', '0.0.0.0/0']);
  });

  it('warns of an endpoint that lies in what is routed into the tunnel', () => {
    const peers = [
      peer(1, { endpoint: '10.1.2.3:51820', allowedIps: ['10.0.0.0/8', '0.0.0.0/0'] }),
      peer(2, { endpoint: '[fd00::9]:1', allowedIps: ['fd00::9/128'] }),
      peer(3, { endpoint: '203.0.113.7:1' }),
      peer(4, { endpoint: 'hub.example.org:1' }),
    ];
    const { warned } = check({ peers });
    assert.match(warned.get('peers[0].endpoint')!, /^lies in 10\.0\.0\.0\/8, which is routed into the tunnel/);
    assert.match(warned.get('peers[1].endpoint')!, /^lies in fd00::9\/128/);
    assert.deepEqual([warned.has('peers[2].endpoint'), warned.has('peers[3].endpoint')], [false, false]);
    assert.ok(!check({ peers, table: 'off' }).warned.has('peers[0].endpoint'));
  });

  it('reads whom to ask for names, and what to pass on', () => {
    const { refused, spec } = check({
      dns: ['10.100.0.2', 'FD00::0:53'],
      dnsDomains: ['Corp.Example.', '~internal.example', '~.'],
      natSubnets: ['172.17.0.1/16'],
    });
    assert.deepEqual([...refused], []);
    assert.deepEqual(spec.dns, ['10.100.0.2', 'fd00::53']);
    assert.deepEqual(spec.dnsDomains, ['corp.example', '~internal.example', '~.']);
    assert.deepEqual([spec.natSubnets, spec.forward, spec.dnsBackend], [['172.17.0.0/16'], true, 'auto']);
    assert.match(check({ dnsDomains: ['a'] }).refused.get('dns_domains')!, /dns names no server/);
    assert.equal(check({}).spec.forward, false);
    assert.equal(check({ table: '254' }).spec.table, 'main');
    assert.match(check({ table: '255' }).refused.get('table')!, /not 255, the system's/);
  });

  it('reads endpoints', () => {
    assert.equal(parseEndpoint('Hub.Example.org:51820'), 'hub.example.org:51820');
    assert.equal(parseEndpoint('[2001:DB8::0:1]:1'), '[2001:db8::1]:1');
    for (const wrong of ['1.2.3:5', 'a..b:5', 'host:0', 'host:65536', '::1:5', '[::1]', '-a:1']) {
      assert.equal(parseEndpoint(wrong), undefined, wrong);
    }
  });
});

describe('network file', () => {
  const TEXT = `
[network.default]
enable_wireguard = true
interface = "wg0"
mtu = 1280
private_key_path = "/etc/aurabox/wireguard/private.key"

[network.default.http]
bind_address = "0.0.0.0"
bind_port = 8081

[[network.default.peers]]
name = "runbeam-core"
public_key = "${key(1)}"
endpoint = "203.0.113.10:51820"
allowed_ips = ["10.42.0.0/16", "fd42:1::/48"]
persistent_keepalive_secs = 25
`;

  it('reads a file as it stands', () => {
    const { networks, warnings } = readNetworkFile(TEXT);
    assert.deepEqual(warnings, []);
    assert.equal(networks.length, 1);
    const [{ enabled, http, spec }] = networks as [(typeof networks)[0]];
    assert.equal(enabled, true);
    assert.deepEqual(http, { bindAddress: '0.0.0.0', bindPort: 8081 });
    assert.equal(spec.mtu, 1280);
    assert.deepEqual(spec.peers[0]!.prefixes, ['10.42.0.0/16', 'fd42:1::/48']);
    assert.equal(spec.peers[0]!.keepaliveSecs, 25);
  });

  it('takes the number of a table as a number, and one network alone has the default route', () => {
    const open = TEXT.replace('"10.42.0.0/16"', '"0.0.0.0/0"');
    const other = open.replaceAll('network.default', 'network.other').replace('"wg0"', '"wg1"');
    const [first, second] = readNetworkFile(`${open}${other.replace('mtu = 1280', 'table = 51820')}`).networks;
    assert.deepEqual([first!.spec.table, second!.spec.table], ['main', 51_820]);
    assert.throws(
      () => readNetworkFile(`${open}${other}`),
      /network\.other: has the default route, as network\.default/,
    );
    assert.throws(() => readNetworkFile(TEXT.replace('mtu = 1280', 'table = 1.5')), /a string or a whole number/);
  });

  it('tells field and line of what is wrong, and refuses an interface that two networks want', () => {
    const second = `${TEXT.replace('mtu = 1280', 'mtu = 99').replace(key(1), 'base64pubkey')}
[network.other]
interface = "wg0"
private_key_path = "/etc/other.key"
hooks = "x"
`;
    assert.throws(
      () => readNetworkFile(second),
      (error) => {
        assert.ok(error instanceof LonglineError);
        const fields = error.violations.map(({ field }) => field).sort();
        assert.deepEqual(fields, [
          'network.default.mtu',
          'network.default.peers[0].public_key',
          'network.other.hooks',
          'network.other.interface',
        ]);
        assert.match(error.message, /99 is out of range.*\(line 5\)/);
        return true;
      },
    );
  });
});

describe('wanted device', () => {
  const privateKey = SecretKey.parse(key(5))!;

  it('joins keys and resolved endpoints to a spec, and refuses the own key as a peer', () => {
    const own = privateKey.publicKey();
    const parts = { privateKey, presharedKeys: new Map(), endpoints: new Map([['hub.example.org:1', '192.0.2.1:1']]) };
    const good = check({
      peers: [peer(1, { endpoint: 'hub.example.org:1' }), peer(2, { endpoint: 'gone.example:2' })],
    });
    const device = wantedDevice(good.spec, parts);
    assert.deepEqual(
      [...device.peers.values()].map(({ endpoint }) => endpoint),
      ['192.0.2.1:1', undefined],
    );
    const bad = check({ peers: [peer(1, { presharedKeyPath: '/etc/psk' }), { publicKey: own }] });
    assert.throws(() => wantedDevice(bad.spec, parts), /peers\[0\]\.preshared_key_path.*peers\[1\]\.public_key/);
  });

  it('leaves out a key of a host whose other key has the prefixes', () => {
    const parts = { privateKey, presharedKeys: new Map(), endpoints: new Map() };
    const keysOf = (...names: (readonly [number, string, string[]])[]) => {
      const peers = names.map(([n, name, allowedIps]) => peer(n, { name, allowedIps }));
      return [...wantedDevice(check({ peers }).spec, parts).peers.keys()];
    };
    assert.deepEqual(keysOf([1, 'a', ['10.0.0.1/32']], [2, 'a', []], [3, 'b', []], [4, '', []]), [1, 3, 4].map(key));
    assert.deepEqual(keysOf([1, 'a', []], [2, 'a', ['10.0.0.1/32']], [4, '', ['10.0.0.2/32']]), [2, 4].map(key));
  });

  it('derives public keys as others do, and never prints secret ones', () => {
    // What `wg pubkey` says of it.
    assert.equal(privateKey.publicKey(), 'UKYUCbHd0DJemxa3AOcZ6XcsBwALG9d4bpB8ZT0gSV0=');
    const shown = `${privateKey} ${JSON.stringify({ privateKey })} ${inspect({ privateKey })}`;
    assert.ok(!shown.includes(privateKey.reveal()));
    assert.equal(SecretKey.parse('77076d0a'), undefined);
  });
});
