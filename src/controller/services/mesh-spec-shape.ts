// The shape of a mesh: what could never be, whoever its members are; and the mesh in the one form that is stored, with nothing
// left open. All mistakes are told at once, by path. Pure.
import { clone } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import {
  type MeshMember,
  type MeshSpec,
  MeshSpecSchema,
  MeshTopology,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import { NetworkBackend } from '#gen/longline/v1/network_pb.js';
import type { FieldViolation } from '../../core/errors.ts';
import { AGENT_ID } from '../../core/ids.ts';
import { endpointForm, parseEndpoint } from '../../core/network/endpoint.ts';
import { domainForm, parseDomain } from '../../core/network/name-servers.ts';
import { DEFAULT_MTU, MAX_MTU, MIN_MTU } from '../../core/network/network-spec.ts';
import { parseAddress, parsePrefix, prefixesOverlap, splitPrefix } from '../../core/network/prefix.ts';
import { DEFAULT_LISTEN_PORT, INTERFACE, meshInterface } from '../mesh/member-network.ts';
import type { AskedMember } from '../mesh/mesh-change.ts';
import { Pool } from '../mesh/pool.ts';
import { networkNameViolations } from './network-methods.ts';
import { Shape, shown } from './shape.ts';

const HOUR_MS = 3_600_000;
const MAX_PORT = 65_535;
const DEFAULT_KEEPALIVE_SECS = 25;
const MAX_ROUTES = 64;
const MAX_DNS = 64;

/** Most members: what each has of the others is stored and sent for each of them. */
const MAX_MEMBERS: Readonly<Record<MeshTopology, number>> = {
  [MeshTopology.UNSPECIFIED]: 2000,
  [MeshTopology.FULL]: 2000,
  [MeshTopology.HUB]: 10_000,
};

/** A mesh that was checked; to be used only if there are no violations. */
export interface ShapedMesh {
  /** Without members. */
  readonly spec: MeshSpec;
  readonly members: readonly AskedMember[];
  readonly violations: readonly FieldViolation[];
}

/** Checks a mesh; `path` is where it lies in the request, `memberPath` where its member of a number does. */
export function shapeMesh(asked: MeshSpec, path: string, memberPath: (place: number) => string): ShapedMesh {
  const shape = new Shape(path);
  const found: FieldViolation[] = [...networkNameViolations(asked.name, `${path}.name`)];
  const spec = clone(MeshSpecSchema, asked);
  spec.topology = asked.topology || MeshTopology.FULL;
  checkPools(shape, spec);
  checkCarrier(shape, spec);
  const most = MAX_MEMBERS[spec.topology] ?? 0;
  const members = shape.atMost(asked.members.length, most, 'members')
    ? asked.members.map((member, place) => checkMember(new Shape(memberPath(place)), spec, member, found))
    : [];
  found.push(...twins(members, memberPath));
  spec.members = [];
  return { spec, members, violations: [...shape.found, ...found].slice(0, 50) };
}

function checkPools(shape: Shape, spec: MeshSpec): void {
  const pool = parsePrefix(spec.pool);
  shape.require(pool !== undefined, 'pool', `${shown(spec.pool)} must be a prefix such as "10.100.0.0/16"`);
  spec.pool = pool ?? '';
  if (spec.subnetPool === '') {
    shape.require(spec.subnetLength === 0, 'subnet_length', 'is given without subnet_pool');
    return;
  }
  const subnets = parsePrefix(spec.subnetPool);
  const form = `${shown(spec.subnetPool)} must be a prefix such as "10.200.0.0/16"`;
  shape.require(subnets !== undefined, 'subnet_pool', form);
  spec.subnetPool = subnets ?? '';
  if (subnets === undefined) return;
  const apart = pool === undefined || !prefixesOverlap(pool, subnets);
  shape.require(apart, 'subnet_pool', `${subnets} overlaps pool ${pool}; take another`);
  const { bits, length } = splitPrefix(subnets)!;
  spec.subnetLength ||= bits === 32 ? 24 : 64;
  const fits = spec.subnetLength >= length && spec.subnetLength <= bits;
  shape.require(fits, 'subnet_length', `is ${spec.subnetLength}; must be ${length} to ${bits} in ${subnets}`);
}

function checkCarrier(shape: Shape, spec: MeshSpec): void {
  shape.require(spec.topology in MeshTopology, 'topology', `${spec.topology} is unknown`);
  shape.require(spec.backend in NetworkBackend, 'backend', `${spec.backend} is unknown`);
  const form = 'must be letters, digits, "_", "." and "-", at most 15 and a letter or digit first';
  const own = spec.interface === '' || INTERFACE.test(spec.interface);
  shape.require(own, 'interface', `${shown(spec.interface)} ${form}`);
  spec.interface = meshInterface(spec);
  const port = spec.listenPort;
  shape.require(
    port <= MAX_PORT,
    'listen_port',
    `is ${port}; must be 1 to ${MAX_PORT}, or 0 for ${DEFAULT_LISTEN_PORT}`,
  );
  // What is wrong with it is told once, not at every endpoint that takes it.
  if (port === 0 || port > MAX_PORT) spec.listenPort = DEFAULT_LISTEN_PORT;
  const { mtu } = spec;
  const range = `must be ${MIN_MTU} to ${MAX_MTU}, or 0 for ${DEFAULT_MTU}`;
  shape.require(mtu === 0 || (mtu >= MIN_MTU && mtu <= MAX_MTU), 'mtu', `is ${mtu}; ${range}`);
  spec.mtu ||= DEFAULT_MTU;
  const secs = spec.persistentKeepaliveSecs;
  shape.require(secs <= MAX_PORT, 'persistent_keepalive_secs', `is ${secs}; must be at most ${MAX_PORT}`);
  spec.persistentKeepaliveSecs ||= DEFAULT_KEEPALIVE_SECS;
  checkDns(shape, spec);
  shape.duration(spec.rotateEvery, 'rotate_every', HOUR_MS, 366 * 24 * HOUR_MS);
  if (spec.rotateEvery !== undefined && durationMs(spec.rotateEvery) === 0) spec.rotateEvery = undefined;
}

function checkDns(shape: Shape, spec: MeshSpec): void {
  shape.atMost(spec.dnsServers.length, MAX_DNS, 'dns_servers');
  spec.dnsServers = spec.dnsServers.map((text, place) => {
    const address = parseAddress(text);
    shape.require(address !== undefined, `dns_servers[${place}]`, `${shown(text)} is no address such as "10.100.0.2"`);
    return address ?? '';
  });
  shape.atMost(spec.dnsDomains.length, MAX_DNS, 'dns_domains');
  spec.dnsDomains = spec.dnsDomains.map((text, place) => {
    const domain = parseDomain(text);
    shape.require(domain !== undefined, `dns_domains[${place}]`, `${shown(text)} isn't ${domainForm}`);
    return domain ?? '';
  });
}

function checkMember(shape: Shape, spec: MeshSpec, member: MeshMember, found: FieldViolation[]): AskedMember {
  const { agentId, hub, nat } = member;
  const id = `${shown(agentId)} must be 1 to 128 characters of [A-Za-z0-9._-]`;
  shape.require(AGENT_ID.test(agentId), 'agent_id', id);
  const endpoint = member.endpoint === '' ? '' : endpointOf(member.endpoint, spec.listenPort);
  const form = `${shown(member.endpoint)} isn't a host, or ${endpointForm}`;
  shape.require(endpoint !== undefined, 'endpoint', form);
  const reachable = !hub || spec.topology !== MeshTopology.HUB || member.endpoint !== '';
  shape.require(reachable, 'endpoint', 'is missing; a hub must have one, or nobody reaches it');
  shape.require(!nat || spec.subnetPool !== '', 'nat', 'is for a container subnet, and the mesh has no subnet_pool');
  const asked = {
    agentId,
    endpoint: endpoint ?? '',
    wantedAddress: checkAddress(shape, spec, member.address),
    hub,
    routes: checkRoutes(shape, spec, member.routes),
    nat,
  };
  found.push(...shape.found);
  return asked;
}

function checkAddress(shape: Shape, { pool }: MeshSpec, text: string): string {
  if (text === '') return '';
  const address = parseAddress(text);
  shape.require(address !== undefined, 'address', `${shown(text)} must be an address such as "10.100.0.7"`);
  const base = splitPrefix(pool);
  if (address === undefined || base === undefined) return '';
  const slot = `${address}/${base.bits}`;
  const inPool = Pool.ofAddresses(base).has(slot);
  shape.require(inPool, 'address', `${address} is no address for a member in pool ${pool}`);
  return slot;
}

function checkRoutes(shape: Shape, { pool, subnetPool }: MeshSpec, routes: readonly string[]): readonly string[] {
  if (!shape.atMost(routes.length, MAX_ROUTES, 'routes')) return [];
  const prefixes = routes.map((text, place) => {
    const prefix = parsePrefix(text);
    const field = `routes[${place}]`;
    shape.require(prefix !== undefined, field, `${shown(text)} must be a prefix such as "192.168.7.0/24"`);
    for (const taken of [pool, subnetPool]) {
      const apart = prefix === undefined || !prefixesOverlap(prefix, taken);
      shape.require(apart, field, `${prefix} overlaps ${taken}, which is the mesh's own`);
    }
    return prefix ?? '';
  });
  return [...new Set(prefixes)];
}

/** An agent that is a member twice, or a route that two have: which of them gets its packets nobody could say. */
function twins(members: readonly AskedMember[], memberPath: (place: number) => string): readonly FieldViolation[] {
  const violations: FieldViolation[] = [];
  const places = new Map<string, number>();
  const owners = new Map<string, string>();
  for (const [place, { agentId, routes }] of members.entries()) {
    const other = places.get(agentId);
    const twice = `${shown(agentId)} is a member already, by members[${other}]`;
    if (other !== undefined) violations.push({ field: `${memberPath(place)}.agent_id`, description: twice });
    places.set(agentId, place);
    for (const [at, route] of routes.entries()) {
      const owner = owners.get(route) ?? agentId;
      const description = `${route} is also that of agent ${owner}; a prefix has one way`;
      if (owner !== agentId) violations.push({ field: `${memberPath(place)}.routes[${at}]`, description });
      owners.set(route, owner);
    }
  }
  return violations;
}

/** "host", "host:port", an IPv6 address with or without brackets; undefined if it is none. */
function endpointOf(text: string, port: number): string | undefined {
  const bare = parseAddress(text.replace(/^\[(.*)\]$/, '$1'));
  if (bare !== undefined) return parseEndpoint(bare.includes(':') ? `[${bare}]:${port}` : `${bare}:${port}`);
  return parseEndpoint(text) ?? parseEndpoint(`${text}:${port}`);
}
