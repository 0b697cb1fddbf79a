import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  EMPTY_RECORD,
  type LinkStep,
  MAIN_TABLE,
  type Route,
  routeKey,
  ruleKey,
  stepKey,
  type WantedLink,
} from '../../../src/capabilities/network/link.ts';
import { planLink } from '../../../src/capabilities/network/link-plan.ts';
import { reconcileLink, undoLink } from '../../../src/capabilities/network/link-reconcile.ts';
import { wantedLink } from '../../../src/capabilities/network/wanted-link.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { checkNetwork, type NetworkDraft } from '../../../src/core/network/network-spec.ts';
import { faultSeeds, seededRandom } from '../../fixtures/seeded-random.ts';
import { LinkModel, MemoryLedger } from './link-model.ts';

const key = (n: number) => Buffer.alloc(32, n).toString('base64');

function specOf(draft: Partial<NetworkDraft>) {
  const refused: string[] = [];
  const whole = { name: 'default', interface: 'wg0', privateKeyPath: '/etc/key', peers: [], ...draft };
  const spec = checkNetwork(
    whole,
    (field, description) => refused.push(`${field}: ${description}`),
    () => undefined,
  );
  return { spec, refused };
}

const peer = (n: number, ...allowedIps: string[]) => ({ publicKey: key(n), allowedIps });

describe('wanted link', () => {
  it('routes what peers are to get, each prefix once, and what is named beside', () => {
    const { spec } = specOf({
      addresses: ['10.42.0.7/16'],
      routes: ['10.42.0.0/16', '192.0.2.0/24'],
      peers: [peer(1, '10.42.0.0/16', 'fd42:1::/48'), peer(2, '10.42.9.9/32')],
    });
    const { routes, rules } = wantedLink(spec, 'wg0', true);
    assert.deepEqual(routes.map(({ prefix }) => prefix).sort(), [
      '10.42.0.0/16',
      '10.42.9.9/32',
      '192.0.2.0/24',
      'fd42:1::/48',
    ]);
    assert.ok(routes.every(({ table }) => table === MAIN_TABLE));
    assert.deepEqual(rules, []);
  });

  it('puts default routes behind a mark in a table of their own, and the mark on the tunnel', () => {
    const { spec } = specOf({ peers: [peer(1, '0.0.0.0/0', '::/0', '10.0.0.0/8')] });
    const { routes, rules } = wantedLink(spec, 'wg0', true);
    assert.ok(spec.fwmark > 255 && (spec.fwmark & 0xcf00) === 0, `mark ${spec.fwmark}`);
    assert.deepEqual(routes, [
      { prefix: '0.0.0.0/0', table: spec.fwmark },
      { prefix: '::/0', table: spec.fwmark },
      { prefix: '10.0.0.0/8', table: MAIN_TABLE },
    ]);
    assert.deepEqual(
      rules.map(({ family, kind }) => `${kind} ${family}`),
      ['unmarked 4', 'main_but_default 4', 'unmarked 6', 'main_but_default 6'],
    );
    for (const family of [4, 6]) {
      const [unmarked, main] = rules.filter((rule) => rule.family === family);
      assert.ok(main!.priority < unmarked!.priority && unmarked!.priority < 32_766);
    }
    assert.equal(specOf({ fwmark: 51_820, peers: [peer(1, '::/0')] }).spec.fwmark, 51_820);
  });

  it('has the main table before the rule that leads the rest into the tunnel, at every step', async () => {
    const { spec } = specOf({ peers: [peer(1, '0.0.0.0/0', '::/0')] });
    const { rules } = wantedLink(spec, 'wg0', true);
    for (const order of [rules, rules.toReversed()]) {
      const model = new LinkModel();
      const ledger = new MemoryLedger();
      const bare: WantedLink = { interface: 'wg0', mtu: undefined, up: true, addresses: [], routes: [], rules: [] };
      model.onStep = () => {
        for (const family of [4, 6]) {
          const kinds = model.rules.filter((rule) => rule.family === family).map(({ kind }) => kind);
          assert.notDeepEqual(kinds, ['unmarked']);
        }
      };
      await reconcileLink(model, ledger, { ...bare, rules: order });
      assert.equal(model.rules.length, 4);
      await reconcileLink(model, ledger, bare);
      assert.equal(model.rules.length, 0);
    }
  });

  it('makes no rules for a table that was named, no routes for "off", and refuses what would loop', () => {
    const peers = [peer(1, '0.0.0.0/0', '10.0.0.0/8')];
    const own = wantedLink(specOf({ table: '1234', peers }).spec, 'wg0', false);
    assert.deepEqual(own.rules, []);
    assert.ok(own.routes.every(({ table }) => table === 1234));
    assert.deepEqual(wantedLink(specOf({ table: 'off', peers }).spec, 'wg0', true).routes, []);
    assert.throws(
      () => wantedLink(specOf({ peers }).spec, 'wg0', false),
      (error) => error instanceof LonglineError && error.violations[0]!.field === 'peers[0].allowed_ips',
    );
    assert.match(specOf({ fwmark: 254, peers }).refused.join(), /^fwmark: 254 is the number of a table/);
  });
});

/** Prefixes few enough to meet each other, with the subnets of addresses among them. */
const PREFIXES = ['10.1.0.0/24', '10.2.0.0/24', '10.3.0.0/16', '10.4.0.9/32', 'fd01::/64', 'fd02::/64', '192.0.2.0/24'];
const ADDRESSES = [
  '10.1.0.1/24',
  '10.1.0.2/24',
  '10.2.0.1/24',
  '10.9.0.1/32',
  'fd01::1/64',
  'fd01::2/64',
  'fd09::1/128',
];
const TABLES = [MAIN_TABLE, 77];

function some<T>(random: () => number, all: readonly T[]): T[] {
  return all.filter(() => random() < 0.5);
}

function someWanted(random: () => number): WantedLink {
  const routes = some(random, PREFIXES).map((prefix): Route => ({ prefix, table: TABLES[random() < 0.7 ? 0 : 1]! }));
  const marks = some(random, [100, 200]);
  return {
    interface: 'wg0',
    mtu: 1280 + Math.floor(random() * 3),
    up: true,
    addresses: some(random, ADDRESSES),
    routes,
    rules: marks.map((mark) => ({ kind: 'unmarked', family: 4, priority: 32_000 + mark, mark, table: mark })),
  };
}

function prefixesOf(model: LinkModel): ReadonlySet<string> {
  return new Set(model.routes.map(routeKey));
}

describe('link plan', () => {
  it('converges from any state to any other, touches nothing that stays, and then rests', async () => {
    for (const seed of faultSeeds(400)) {
      const random = seededRandom(seed);
      const model = new LinkModel();
      model.marksRoutes = seed % 2 === 0;
      const ledger = new MemoryLedger();
      await reconcileLink(model, ledger, someWanted(random), undefined);
      // Somebody else's, where there is room.
      for (const address of some(random, ['10.7.0.1/24', 'fd07::1/64'])) model.addAddress(address);
      // With the last IPv4 address Linux lets go of every IPv4 route, so an IPv6 one.
      model.routes.push({ prefix: 'fd99::/64', table: MAIN_TABLE, origin: model.marksRoutes ? 'foreign' : 'unknown' });
      model.rules.push({ kind: 'main_but_default', family: 4, priority: 5 });
      if (random() < 0.3) model.losesSecondaries = true;
      const foreign = [...model.addresses].filter(([address]) => !ledger.record.addresses.includes(address));

      const wanted = someWanted(random);
      const before = { addresses: new Set(model.addresses.keys()), routes: prefixesOf(model) };
      model.steps.length = 0;
      const { refused } = await reconcileLink(model, ledger, wanted);
      const context = `seed ${seed}: ${model.steps.map(stepKey).join(', ')}`;
      assert.deepEqual([...refused], [], context);
      for (const address of [...wanted.addresses, ...foreign.map(([one]) => one)]) {
        assert.ok(model.addresses.has(address), `${address} is there; ${context}`);
      }
      for (const route of wanted.routes)
        assert.ok(prefixesOf(model).has(routeKey(route)), `${routeKey(route)}; ${context}`);
      assert.ok(
        model.routes.some(({ prefix }) => prefix === 'fd99::/64'),
        context,
      );
      assert.ok(
        model.rules.some(({ priority }) => priority === 5),
        context,
      );
      const known = new Set([...wanted.routes.map(routeKey), `fd99::/64 table ${MAIN_TABLE}`]);
      const surplus = model.routes.filter((route) => route.origin !== 'system' && !known.has(routeKey(route)));
      assert.deepEqual(surplus, [], context);
      const ours = new Set(ledger.record.addresses);
      assert.ok(ours.isSubsetOf(new Set(wanted.addresses)), context);
      assert.ok(keptAreUntouched(model.steps, wanted, before), context);
      model.steps.length = 0;
      const writes = ledger.writes;
      await reconcileLink(model, ledger, wanted);
      assert.deepEqual([model.steps, ledger.writes - writes], [[], 0], context);
    }
  });

  it('can be killed before any step and begun anew, and undoing leaves only what is not ours', async () => {
    for (const seed of faultSeeds(200)) {
      const random = seededRandom(seed);
      const model = new LinkModel();
      model.marksRoutes = seed % 2 === 0;
      const ledger = new MemoryLedger();
      model.state = 'up';
      model.addAddress('10.7.0.1/24');
      model.rules.push({ kind: 'main_but_default', family: 4, priority: 5 });
      let left = Math.floor(random() * 12);
      model.onStep = () => {
        if (left-- === 0) throw new Error('killed');
      };
      const wanted = someWanted(random);
      for (const next of [someWanted(random), wanted, wanted]) {
        await reconcileLink(model, ledger, next).catch((error: Error) => assert.equal(error.message, 'killed'));
      }
      assert.deepEqual([...(await reconcileLink(model, ledger, wanted)).refused], []);
      assert.deepEqual(new Set(model.addresses.keys()), new Set(['10.7.0.1/24', ...wanted.addresses]), `seed ${seed}`);
      left = Math.floor(random() * 8);
      await undoLink(model, ledger, 'wg0').catch((error: Error) => assert.equal(error.message, 'killed'));
      await undoLink(model, ledger, 'wg0');
      assert.deepEqual([...model.addresses.keys()], ['10.7.0.1/24'], `seed ${seed}`);
      assert.ok(model.routes.every(({ origin }) => origin === 'system'));
      assert.deepEqual(model.rules.map(ruleKey), ['IPv4 priority 5 main but default']);
      assert.deepEqual(ledger.record, { ...EMPTY_RECORD, identity: '7' });
    }
  });

  it("takes what an earlier interface of the name had for nobody's, and reports what somebody else has set", async () => {
    const model = new LinkModel();
    model.addAddress('10.1.0.1/24');
    model.routes.push({ prefix: '192.0.2.0/24', table: 77, origin: 'foreign' });
    const record = { ...EMPTY_RECORD, identity: '6', addresses: ['10.1.0.1/24'] };
    const wanted: WantedLink = { interface: 'wg0', mtu: undefined, up: false, addresses: [], routes: [], rules: [] };
    const { foreign, steps } = planLink(wanted, await model.read(), record);
    assert.deepEqual(steps, []);
    assert.deepEqual(foreign, { addresses: ['10.1.0.1/24'], routes: [{ prefix: '192.0.2.0/24', table: 77 }] });
  });

  it('names a step that is refused, takes the others, and says when somebody undoes what it does', async () => {
    const model = new LinkModel();
    const wanted = { ...someWanted(seededRandom(1)), addresses: ['10.1.0.1/24'], routes: [], rules: [] };
    model.apply = async (_name, steps) =>
      steps.map((step) => ({ step, error: new LonglineError('invalid', 'not that') }));
    const { refused } = await reconcileLink(model, new MemoryLedger(), wanted);
    assert.deepEqual(
      [...refused.keys()],
      ['mtu 1280', 'add_address 10.1.0.1/24', 'up'].map((one) => one.replace('1280', String(wanted.mtu))),
    );
    model.apply = async () => [];
    const undone = await reconcileLink(model, new MemoryLedger(), wanted);
    assert.match(undone.refused.get('add_address 10.1.0.1/24')!.message, /somebody else undoes it/);
    model.state = 'absent';
    await assert.rejects(reconcileLink(model, new MemoryLedger(), wanted), /there is no interface "wg0"/);
  });
});

/** No route that is there before and afterwards is removed, and none is added, but for those that go with an address. */
function keptAreUntouched(
  steps: readonly LinkStep[],
  wanted: WantedLink,
  before: { readonly addresses: ReadonlySet<string>; readonly routes: ReadonlySet<string> },
): boolean {
  const keptRoutes = new Set(wanted.routes.map(routeKey).filter((one) => before.routes.has(one)));
  const keptAddresses = new Set(wanted.addresses.filter((one) => before.addresses.has(one)));
  return steps.every((step) => {
    if (step.kind === 'remove_route') return !keptRoutes.has(routeKey(step.route));
    if (step.kind === 'remove_address' || step.kind === 'add_address') return !keptAddresses.has(step.address);
    return true;
  });
}
