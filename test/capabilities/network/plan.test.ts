import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { FoundDevice, KnownDevice, PeerState, WantedDevice } from '../../../src/capabilities/network/device.ts';
import {
  endpointsAfter,
  isEmptyChange,
  knownAfter,
  planDevice,
  SINK_KEY,
} from '../../../src/capabilities/network/plan.ts';
import { MAX_PEERS } from '../../../src/core/network/network-spec.ts';
import { SecretKey } from '../../../src/core/wireguard-keys.ts';
import { asFound, DeviceModel } from './device-model.ts';

const key = (n: number) => Buffer.alloc(32, n + 1).toString('base64');
const secret = (n: number) => SecretKey.parse(key(n))!;
const endpointOf = (n: number) => `203.0.113.${n}:51820`;

const peerFields = fc.record({
  presharedKey: fc.option(fc.nat(2).map(secret), { nil: undefined }),
  endpoint: fc.option(fc.nat(3).map(endpointOf), { nil: undefined }),
  keepaliveSecs: fc.constantFrom(0, 15, 25),
});

/** Few keys and prefixes, so that states overlap. */
const wantedDevice: fc.Arbitrary<WantedDevice> = fc
  .record({
    privateKey: fc.nat(2).map((n) => secret(100 + n)),
    listenPort: fc.option(fc.constantFrom(51820, 51821), { nil: undefined }),
    fwmark: fc.nat(1),
    fields: fc.uniqueArray(fc.tuple(fc.nat(6), peerFields), { selector: ([n]) => n, maxLength: 7 }),
    owners: fc.array(fc.nat(9), { minLength: 10, maxLength: 10 }),
  })
  .map(({ fields, owners, ...own }) => {
    const peers = fields.map(([n, rest]): [string, PeerState] => {
      const prefixes = owners.flatMap((owner, place) => (owner === n ? [`10.0.${place}.0/24`] : []));
      return [key(n), { publicKey: key(n), ...rest, prefixes: new Set(prefixes) }];
    });
    return { ...own, peers: new Map(peers) };
  });

const foundDevice = wantedDevice.map(asFound);

function ownerOf(state: WantedDevice | FoundDevice, prefix: string): string | undefined {
  return [...state.peers.values()].find(({ prefixes }) => prefixes.has(prefix))?.publicKey;
}

const NONE = { writtenEndpoints: new Map<string, string>() };
const OWN = { privateKey: secret(9), listenPort: undefined, fwmark: 0 };

function peer(n: number): PeerState {
  const prefixes = new Set([`10.0.${n}.0/24`]);
  return { publicKey: key(n), presharedKey: undefined, endpoint: endpointOf(n), keepaliveSecs: 0, prefixes };
}

describe('plan of a device', () => {
  it('converges from any state to any other, and a second plan is empty', () => {
    fc.assert(
      fc.property(wantedDevice, foundDevice, (wanted, found) => {
        const model = new DeviceModel(found);
        const plan = planDevice(wanted, found, NONE);
        model.write(plan);
        const { state } = model;
        assert.deepEqual([...state.peers.keys()].sort(), [...wanted.peers.keys()].sort());
        for (const peer of wanted.peers.values()) {
          const got = state.peers.get(peer.publicKey)!;
          assert.deepEqual([...got.prefixes].sort(), [...peer.prefixes].sort());
          assert.equal(got.presharedKey?.reveal(), peer.presharedKey?.reveal());
          assert.equal(got.keepaliveSecs, peer.keepaliveSecs);
          if (peer.endpoint !== undefined) assert.equal(got.endpoint, peer.endpoint);
        }
        assert.equal(state.publicKey, wanted.privateKey.publicKey());
        const writtenEndpoints = endpointsAfter(wanted, NONE, new Set());
        assert.ok(isEmptyChange(planDevice(wanted, state, { writtenEndpoints })));
        assert.ok(isEmptyChange(planDevice(wanted, state, NONE)));
      }),
    );
  });

  it('is the same from what the last one is known to have left as from what is there', () => {
    const steps = fc.array(wantedDevice, { minLength: 2, maxLength: 4 });
    const others = fc.uniqueArray(fc.nat(6).map(key), { maxLength: 2 });
    fc.assert(
      fc.property(steps, foundDevice, others, (wanted, found, theirs) => {
        const model = new DeviceModel(found);
        let known: KnownDevice = found;
        let context = { ...NONE, foreign: new Set(theirs) };
        for (const one of wanted) {
          // A host that changed its key is looked for where it is.
          const heirs = planDevice(one, known, context).peers.filter((change) => {
            return change.kind === 'add' && change.fields.greet;
          });
          if (heirs.some(({ publicKey }) => one.peers.get(publicKey)?.endpoint === undefined)) known = model.state;
          const fromKnown = planDevice(one, known, context);
          const twin = new DeviceModel(model.state);
          twin.write(fromKnown);
          const plan = planDevice(one, model.state, context);
          model.write(plan);
          assert.deepEqual(twin.state, model.state);
          assert.equal(isEmptyChange(fromKnown), isEmptyChange(plan));
          known = knownAfter(one, known, context);
          context = { ...context, writtenEndpoints: new Map(endpointsAfter(one, context, new Set())) };
        }
      }),
    );
  });

  it('names no peer that stays as it is', () => {
    fc.assert(
      fc.property(wantedDevice, foundDevice, fc.nat(6), (wanted, found, n) => {
        const same = found.peers.get(key(n));
        if (same === undefined) return;
        const others = [...wanted.peers.values()]
          .filter(({ publicKey }) => publicKey !== same.publicKey)
          .map((peer): [string, PeerState] => {
            return [peer.publicKey, { ...peer, prefixes: peer.prefixes.difference(same.prefixes) }];
          });
        const plan = planDevice({ ...wanted, peers: new Map([...others, [same.publicKey, same]]) }, found, NONE);
        assert.ok(plan.peers.every(({ publicKey }) => publicKey !== same.publicKey));
      }),
    );
  });

  it('never leaves a prefix that has an owner before and after without one, and takes none from a peer that keeps it', () => {
    fc.assert(
      fc.property(wantedDevice, foundDevice, (wanted, found) => {
        const prefixes = [...found.peers.values()].flatMap((peer) => [...peer.prefixes]);
        const model = new DeviceModel(found, (state) => {
          for (const prefix of prefixes) {
            const [before, after, now] = [found, wanted, state].map((one) => ownerOf(one, prefix));
            if (after !== undefined) assert.ok(now === before || now === after, `${prefix} at ${now}`);
          }
        });
        model.write(planDevice(wanted, found, NONE));
      }),
    );
  });

  it('leaves a roamed endpoint alone until what is wanted changes', () => {
    const peer = (endpoint: string): PeerState => {
      return { publicKey: key(1), presharedKey: undefined, endpoint, keepaliveSecs: 0, prefixes: new Set() };
    };
    const state = (endpoint: string): WantedDevice => {
      const own = { privateKey: secret(9), listenPort: undefined, fwmark: 0 };
      return { ...own, peers: new Map([[key(1), peer(endpoint)]]) };
    };
    const context = { writtenEndpoints: new Map([[key(1), endpointOf(1)]]) };
    assert.ok(isEmptyChange(planDevice(state(endpointOf(1)), asFound(state(endpointOf(7))), context)));
    const plan = planDevice(state(endpointOf(2)), asFound(state(endpointOf(7))), context);
    assert.deepEqual(plan.peers, [
      { kind: 'update', publicKey: key(1), fields: { endpoint: endpointOf(2) }, whole: peer(endpointOf(2)) },
    ]);
    const after = (wanted: WantedDevice, refused: string[] = []) => [
      ...endpointsAfter(wanted, context, new Set(refused)),
    ];
    assert.deepEqual(after(state(endpointOf(2))), [[key(1), endpointOf(2)]]);
    assert.deepEqual(after(state(endpointOf(2)), [key(1)]), [[key(1), endpointOf(1)]]);
    assert.deepEqual(after({ ...state(endpointOf(2)), peers: new Map() }), []);
  });

  it('leaves peers of others where they are, and removes a sink that was left behind', () => {
    const own = { privateKey: secret(9), listenPort: undefined, fwmark: 0 };
    const bare = (publicKey: string): [string, PeerState] => {
      return [
        publicKey,
        { publicKey, presharedKey: undefined, endpoint: undefined, keepaliveSecs: 0, prefixes: new Set() },
      ];
    };
    const found = asFound({ ...own, peers: new Map([bare(key(1)), bare(key(2)), bare(SINK_KEY)]) });
    const plan = planDevice({ ...own, peers: new Map() }, found, { ...NONE, foreign: new Set([key(2)]) });
    assert.deepEqual(plan.peers, [
      { kind: 'remove', publicKey: key(1) },
      { kind: 'remove', publicKey: SINK_KEY },
    ]);
  });

  it('greets a key that takes over from another, where that one was last seen', () => {
    const roamed = new Map([[key(0), { ...peer(0), endpoint: endpointOf(7) }]]);
    const found = asFound({ ...OWN, peers: roamed });
    const heir = { ...peer(1), endpoint: undefined, prefixes: peer(0).prefixes };
    const retired = { ...peer(0), endpoint: undefined, prefixes: new Set<string>() };
    for (const peers of [[heir], [retired, heir], [heir, retired]]) {
      const wanted = { ...OWN, peers: new Map(peers.map((one) => [one.publicKey, one])) };
      const added = planDevice(wanted, found, NONE).peers.find(({ kind }) => kind === 'add');
      assert.ok(added?.kind === 'add' && added.publicKey === key(1));
      const { endpoint, greet } = added.fields;
      assert.deepEqual({ endpoint, greet }, { endpoint: endpointOf(7), greet: true });
    }
    const other = { ...heir, prefixes: new Set([...heir.prefixes, '10.1.0.0/24']) };
    const [added] = planDevice({ ...OWN, peers: new Map([[key(1), other]]) }, found, NONE).peers;
    assert.ok(added?.kind === 'add' && added.fields.greet === undefined && added.fields.endpoint === undefined);
  });

  it('fits into a full interface', () => {
    const own = { privateKey: secret(9), listenPort: undefined, fwmark: 0 };
    const full = (from: number, prefixes: ReadonlySet<string>): WantedDevice => {
      const peers = Array.from({ length: MAX_PEERS }, (_, place): [string, PeerState] => {
        const publicKey = String(from + place);
        const owned = place === 1 ? prefixes : new Set<string>();
        return [
          publicKey,
          { publicKey, presharedKey: undefined, endpoint: undefined, keepaliveSecs: 0, prefixes: owned },
        ];
      });
      return { ...own, peers: new Map(peers) };
    };
    const plan = planDevice(full(1, new Set()), asFound(full(0, new Set())), NONE);
    assert.deepEqual(
      plan.peers.map(({ kind, publicKey }) => [kind, publicKey]),
      [
        ['remove', '0'],
        ['add', String(MAX_PEERS)],
      ],
    );
    const renewed = planDevice(full(0, new Set()), asFound(full(0, new Set(['10.0.0.0/8']))), NONE);
    assert.deepEqual(
      renewed.peers.map(({ kind, publicKey }) => [kind, publicKey]),
      [
        ['remove', '1'],
        ['add', '1'],
      ],
    );
  });
});
