// The network of one member of a mesh: what the controller asks of its agent. Pure; the same mesh gives the same to the byte.
import { create } from '@bufbuild/protobuf';
import type { MeshSpec } from '#gen/longline/fleet/v1/network_service_pb.js';
import {
  type NetworkPeer,
  NetworkPeerSchema,
  type NetworkSpec,
  NetworkSpecSchema,
} from '#gen/longline/v1/network_pb.js';
import type { KeyRotationRecord, MeshMemberRecord } from '../store/mesh.ts';
import { epochsOf, keysOf } from './key-rotation.ts';
import { Layout, type Neighbour } from './layout.ts';

export const DEFAULT_LISTEN_PORT = 51_820;

/** What an interface may be called. */
export const INTERFACE = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/;

/** The interface of a mesh on its members. */
export function meshInterface(spec: MeshSpec): string {
  if (spec.interface !== '') return spec.interface;
  return INTERFACE.test(spec.name) ? spec.name : 'wg0';
}

/** Networks of the members of one mesh, as it is at one revision. */
export class MemberNetworks {
  readonly #spec: MeshSpec;
  readonly #layout: Layout;
  readonly #rotation: KeyRotationRecord | undefined;
  readonly #length: string;
  readonly #known = new Map<Neighbour, NetworkPeer[]>();

  /** The spec is complete and canonical. `rotation` is the one under way. */
  constructor(spec: MeshSpec, members: readonly MeshMemberRecord[], rotation: KeyRotationRecord | undefined) {
    this.#spec = spec;
    this.#rotation = rotation;
    this.#length = spec.pool.slice(spec.pool.indexOf('/'));
    // In the order that peers are to have, so that sorting them, which is done for each member, finds nothing to do.
    const present = members
      .filter(({ leaving }) => !leaving)
      .sort((one, other) => byKey(one.publicKey, other.publicKey));
    this.#layout = new Layout({ topology: spec.topology, pool: spec.pool, subnetPool: spec.subnetPool }, present);
  }

  /** Neighbours that have a key: those that a member has as peers, and that have it. */
  neighbours(member: MeshMemberRecord): readonly Neighbour[] {
    return this.#layout.neighbours(member).filter((neighbour) => neighbour.member.publicKey !== '');
  }

  /** A member without a key has no peers: nobody would answer it. */
  of(member: MeshMemberRecord): NetworkSpec {
    const spec = this.#spec;
    const { inUse, ready } = epochsOf(member, this.#rotation);
    const peers = member.publicKey === '' ? [] : this.neighbours(member).flatMap((one) => this.#peers(one));
    const port = member.endpoint === '' ? 0 : Number(/\d+$/.exec(member.endpoint)![0]);
    return create(NetworkSpecSchema, {
      name: spec.name,
      interface: meshInterface(spec),
      addresses: [member.address.replace(/\/\d+$/, this.#length)],
      listenPort: port,
      mtu: spec.mtu,
      keyEpoch: inUse,
      nextKeyEpoch: ready,
      peers: peers.sort((one, other) => byKey(one.publicKey, other.publicKey)),
      dnsServers: spec.dnsServers,
      dnsDomains: spec.dnsDomains,
      // Hubs pass packets on between spokes; others between the mesh and what lies behind them.
      forward: member.hub || member.subnet !== '' || member.routes.length > 0,
      natSubnets: member.nat && member.subnet !== '' ? [member.subnet] : [],
      backend: spec.backend,
    });
  }

  #peers(neighbour: Neighbour): NetworkPeer[] {
    let peers = this.#known.get(neighbour);
    if (peers === undefined) {
      peers = this.#made(neighbour);
      this.#known.set(neighbour, peers);
    }
    return peers;
  }

  #made({ member, prefixes }: Neighbour): NetworkPeer[] {
    const { agentId: name, endpoint } = member;
    const keepalive = endpoint === '' ? 0 : this.#spec.persistentKeepaliveSecs;
    return keysOf(member, this.#rotation).map(({ publicKey, hasPrefixes }) =>
      create(NetworkPeerSchema, {
        name,
        publicKey,
        endpoint,
        allowedIps: hasPrefixes ? [...prefixes] : [],
        // A key that isn't in use yet, or no more, answers to nobody.
        persistentKeepaliveSecs: hasPrefixes ? keepalive : 0,
      }),
    );
  }
}

function byKey(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
