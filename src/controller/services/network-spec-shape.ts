// The shape of a network: what no agent could bring about, by the same rules as an agent's own file; and the network in the one
// form that is stored, so that the same spec is the same bytes however it was written. All mistakes are told at once. Pure.
import { create } from '@bufbuild/protobuf';
import {
  ForeignPeers,
  NetworkBackend,
  NetworkDnsBackend,
  type NetworkPeer,
  type NetworkProblem,
  NetworkProblemSchema,
  type NetworkSpec,
  NetworkSpecSchema,
} from '#gen/longline/v1/network_pb.js';
import type { FieldViolation } from '../../core/errors.ts';
import { type NetworkSpec as CheckedNetwork, checkNetwork, type PeerDraft } from '../../core/network/network-spec.ts';
import { parsePrefix } from '../../core/network/prefix.ts';
import { shown } from './shape.ts';

/** Most violations and warnings that are told of one network. */
const MAX_TOLD = 50;
const MAX_DOMAINS = 64;
const DOMAIN = /^(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+$/;

/** A network that was checked. */
export interface ShapedNetwork {
  /** In canonical form; to be used only if there are no violations. */
  readonly spec: NetworkSpec;
  readonly violations: readonly FieldViolation[];
  readonly warnings: readonly NetworkProblem[];
}

/** What is wrong with name servers' domains. */
export function domainViolations(domains: readonly string[], field: string): readonly FieldViolation[] {
  const violations = domains
    .map((domain, place) => ({ domain, at: `${field}[${place}]` }))
    .filter(({ domain }) => !DOMAIN.test(domain))
    .map(({ domain, at }) => ({ field: at, description: `${shown(domain)} is no domain such as "example.org"` }));
  if (domains.length <= MAX_DOMAINS) return violations;
  return [{ field, description: `has ${domains.length} entries; at most ${MAX_DOMAINS} are allowed` }];
}

/** Checks a network; `path` is where it lies in the request. */
export function shapeNetwork(asked: NetworkSpec, path: string): ShapedNetwork {
  const violations: FieldViolation[] = [];
  const warnings: NetworkProblem[] = [];
  const refuse = (field: string, description: string): void => {
    violations.push({ field: `${path}.${field}`, description });
  };
  const checked = checkNetwork(
    {
      name: asked.name,
      interface: asked.interface === '' ? undefined : asked.interface,
      privateKeyPath: asked.privateKeyPath || undefined,
      addresses: asked.addresses,
      listenPort: asked.listenPort || undefined,
      mtu: asked.mtu || undefined,
      dns: asked.dnsServers,
      routes: asked.routes,
      table: asked.table || undefined,
      fwmark: asked.fwmark,
      keyEpoch: asked.keyEpoch,
      nextKeyEpoch: asked.nextKeyEpoch,
      adoptInterface: asked.adoptInterface,
      peers: asked.peers.map(draftOf),
    },
    refuse,
    (field, message) => warnings.push(create(NetworkProblemSchema, { field, message, harmless: true })),
  );
  if (!(asked.backend in NetworkBackend)) refuse('backend', `${asked.backend} is unknown`);
  if (!(asked.foreignPeers in ForeignPeers)) refuse('foreign_peers', `${asked.foreignPeers} is unknown`);
  if (!(asked.dnsBackend in NetworkDnsBackend)) refuse('dns_backend', `${asked.dnsBackend} is unknown`);
  violations.push(...domainViolations(asked.dnsDomains, `${path}.dns_domains`));
  const natSubnets = asked.natSubnets.map((text, place) => {
    const prefix = parsePrefix(text);
    if (prefix === undefined) refuse(`nat_subnets[${place}]`, `${shown(text)} is no prefix such as "10.200.7.0/24"`);
    return prefix ?? '';
  });
  return {
    spec: canonical(asked, checked, natSubnets),
    violations: violations.slice(0, MAX_TOLD),
    warnings: warnings.slice(0, MAX_TOLD),
  };
}

function draftOf(peer: NetworkPeer): PeerDraft {
  return {
    name: peer.name,
    publicKey: peer.publicKey === '' ? undefined : peer.publicKey,
    presharedKeyPath: peer.presharedKeyPath || undefined,
    endpoint: peer.endpoint || undefined,
    allowedIps: peer.allowedIps,
    keepaliveSecs: peer.persistentKeepaliveSecs,
  };
}

/** Where a prefix was at two peers it is at one only: agents get peers in the order of their keys, and couldn't tell the later. */
function canonical(asked: NetworkSpec, checked: CheckedNetwork, natSubnets: readonly string[]): NetworkSpec {
  return create(NetworkSpecSchema, {
    name: checked.name,
    interface: checked.interface,
    addresses: [...checked.addresses],
    listenPort: checked.listenPort ?? 0,
    mtu: checked.mtu,
    privateKeyPath: checked.privateKeyPath ?? '',
    keyEpoch: checked.keyEpoch,
    nextKeyEpoch: checked.nextKeyEpoch,
    peers: checked.peers.map((peer) => ({
      name: peer.name,
      publicKey: peer.publicKey,
      endpoint: peer.endpoint ?? '',
      allowedIps: [...peer.prefixes],
      persistentKeepaliveSecs: peer.keepaliveSecs,
      presharedKeyPath: peer.presharedKeyPath ?? '',
    })),
    routes: [...checked.routes],
    table: String(checked.table),
    fwmark: checked.fwmark,
    dnsServers: [...checked.dns],
    dnsDomains: asked.dnsDomains,
    dnsBackend: asked.dnsBackend,
    forward: asked.forward,
    natSubnets: [...new Set(natSubnets)],
    backend: asked.backend,
    foreignPeers: asked.foreignPeers,
    adoptInterface: asked.adoptInterface,
  });
}
