// Reads the file of networks: [network.NAME] tables in TOML, several of them, each with its [[network.NAME.peers]].
// Everything that is wrong is told at once, with path and line. Reads text, not files.
import { readToml, type TomlTable } from '../toml/toml-table.ts';
import { checkNetwork, type NetworkSpec, type PeerDraft } from './network-spec.ts';
import { isDefaultPrefix } from './prefix.ts';

/** One network of the file. */
export interface FiledNetwork {
  /** False: the interface is to be down. */
  readonly enabled: boolean;
  readonly spec: NetworkSpec;
  /** Where health and metrics of this network are served. */
  readonly http: { readonly bindAddress: string; readonly bindPort: number } | undefined;
}

/** What a file says. */
export interface NetworkFile {
  readonly networks: readonly FiledNetwork[];
  /** What is allowed but may surprise: "network.default.peers[1].allowed_ips: …". */
  readonly warnings: readonly string[];
}

/** Parses the text of a file. Throws `invalid` with every violation. */
export function readNetworkFile(text: string): NetworkFile {
  return readToml(text, (root) => {
    const warnings: string[] = [];
    const section = root.table('network');
    const networks = section.keys().map((name) => readNetwork(name, section.table(name), warnings));
    const placeOf = new Map<string, string>();
    for (const { spec } of networks) {
      const other = placeOf.get(spec.interface);
      if (other !== undefined) section.fail(`${spec.name}.interface`, `"${spec.interface}" is also that of ${other}`);
      if (spec.interface !== '') placeOf.set(spec.interface, `network.${spec.name}`);
    }
    for (const [name, other] of sameDefaults(networks)) {
      section.fail(name, `has the default route, as network.${other} does; set "table" of one to a number or "off"`);
    }
    return { networks, warnings };
  });
}

/** Pairs of networks that both take all of a family's addresses for the main table. */
function* sameDefaults(networks: readonly FiledNetwork[]): Generator<readonly [string, string]> {
  const owner = new Map<string, string>();
  for (const { enabled, spec } of networks) {
    if (!enabled || spec.table !== 'main') continue;
    const prefixes = new Set([spec.routes, ...spec.peers.map((peer) => peer.prefixes)].flat().filter(isDefaultPrefix));
    for (const prefix of prefixes) {
      const other = owner.get(prefix);
      if (other === undefined) owner.set(prefix, spec.name);
      else yield [spec.name, other];
    }
  }
}

function readNetwork(name: string, table: TomlTable, warnings: string[]): FiledNetwork {
  const enabled = table.boolean('enable_wireguard') ?? false;
  const draft = {
    name,
    interface: table.string('interface'),
    privateKeyPath: table.secretString('private_key_path'),
    addresses: table.strings('addresses'),
    listenPort: table.number('listen_port', 1, 65_535, true),
    mtu: table.number('mtu', Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, true),
    dns: table.strings('dns'),
    dnsDomains: table.strings('dns_domains'),
    dnsBackend: table.string('dns_backend'),
    natSubnets: table.strings('nat_subnets'),
    forward: table.boolean('forward'),
    routes: table.strings('routes'),
    table: table.stringOrWhole('table'),
    fwmark: table.number('fwmark', 0, 0xffff_ffff, true),
    backend: table.string('backend'),
    foreignPeers: table.string('foreign_peers'),
    adoptInterface: table.boolean('adopt_interface'),
    peers: table.tables('peers').map(readPeer),
  };
  const spec = checkNetwork(
    draft,
    (field, description) => table.fail(field, description),
    (field, description) => warnings.push(`${table.path}.${field}: ${description}`),
  );
  return { enabled, spec, http: readHttp(table) };
}

function readPeer(table: TomlTable): PeerDraft {
  return {
    name: table.string('name'),
    publicKey: table.string('public_key'),
    presharedKeyPath: table.secretString('preshared_key_path'),
    endpoint: table.string('endpoint'),
    allowedIps: table.strings('allowed_ips'),
    keepaliveSecs: table.number('persistent_keepalive_secs', 0, 65_535, true),
  };
}

function readHttp(network: TomlTable): FiledNetwork['http'] {
  const given = network.has('http');
  const table = network.table('http');
  const bindAddress = table.string('bind_address') ?? '127.0.0.1';
  const bindPort = table.number('bind_port', 1, 65_535, true);
  if (!given) return undefined;
  if (bindPort === undefined) {
    if (!table.has('bind_port')) table.fail('bind_port', 'missing; must be a port from 1 to 65535');
    return undefined;
  }
  return { bindAddress, bindPort };
}
