// What plans rely on an interface's system for, held against the real Linux and against the model of it.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import {
  type FoundLink,
  MAIN_TABLE,
  type Route,
  type Rule,
  routeKey,
  ruleKey,
  type WantedLink,
} from '../../../src/capabilities/network/link.ts';
import { planLink, recordAfter } from '../../../src/capabilities/network/link-plan.ts';
import { reconcileLink, undoLink } from '../../../src/capabilities/network/link-reconcile.ts';
import type { LinkDriver } from '../../../src/capabilities/network/ports.ts';
import { MemoryLedger } from '../../capabilities/network/link-model.ts';

/** An interface that is down and has nothing. */
export interface OpenLink {
  readonly driver: LinkDriver;
  readonly name: string;
  /** Sets an address as an administrator does. */
  setAddress(address: string): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const MARKED: readonly Rule[] = ([4, 6] as const).flatMap((family): Rule[] => [
  { kind: 'unmarked', family, priority: 32_011, mark: 0x2010, table: 0x2010 },
  { kind: 'main_but_default', family, priority: 32_010 },
]);

const WANTED: Omit<WantedLink, 'interface'> = {
  mtu: 1380,
  up: true,
  addresses: ['10.42.0.7/16', '10.42.0.8/16', 'fd42::7/64', '192.0.2.1/32'],
  routes: [
    { prefix: '10.42.0.0/16', table: MAIN_TABLE },
    { prefix: '10.99.0.1/32', table: MAIN_TABLE },
    { prefix: 'fd99::/48', table: MAIN_TABLE },
    { prefix: 'fd99::1/128', table: 77 },
    { prefix: '0.0.0.0/0', table: 0x2010 },
    { prefix: '::/0', table: 0x2010 },
  ],
  rules: MARKED,
};

function ours(found: FoundLink): readonly string[] {
  return found.routes
    .filter(({ origin }) => origin === 'ours')
    .map(routeKey)
    .sort();
}

function owned(found: FoundLink): readonly string[] {
  return [...found.addresses]
    .filter(([, origin]) => origin !== 'system')
    .map(([address]) => address)
    .sort();
}

/** Declares the tests. `open` is called for each; one of them is killed behind every `stride`-th step. */
export function declareLinkContract(open: () => Promise<OpenLink>, stride: number): void {
  it('sets addresses, MTU, routes and rules of both families, and has nothing left to do', async () => {
    await using link = await open();
    const ledger = new MemoryLedger();
    const wanted = { ...WANTED, interface: link.name };
    const { refused } = await reconcileLink(link.driver, ledger, wanted);
    assert.deepEqual([...refused], []);
    const found = await link.driver.read(link.name);
    assert.deepEqual([found.state, found.mtu], ['up', 1380]);
    assert.deepEqual(owned(found), [...WANTED.addresses].sort());
    // The system itself has the subnet of an address.
    assert.deepEqual(
      ours(found),
      WANTED.routes
        .map(routeKey)
        .filter((key) => !key.startsWith('10.42.0.0/16'))
        .sort(),
    );
    assert.ok(found.routes.some(({ origin, prefix }) => origin === 'system' && prefix === '10.42.0.0/16'));
    assert.deepEqual(found.rules.map(ruleKey).sort(), MARKED.map(ruleKey).sort());
    assert.deepEqual((await reconcileLink(link.driver, ledger, wanted)).steps, []);
  });

  it('keeps the other addresses of a subnet when the first goes, and the route of a subnet that no address has any more', async () => {
    await using link = await open();
    const ledger = new MemoryLedger();
    const wanted = { ...WANTED, interface: link.name };
    await reconcileLink(link.driver, ledger, wanted);
    const second = { ...wanted, addresses: ['10.42.0.8/16', '192.0.2.1/32'] };
    const { refused, steps } = await reconcileLink(link.driver, ledger, second);
    assert.deepEqual([...refused], []);
    assert.ok(
      steps.every(({ kind }) => kind === 'keep_secondaries' || kind === 'remove_address'),
      JSON.stringify(steps),
    );
    assert.deepEqual(owned(await link.driver.read(link.name)), ['10.42.0.8/16', '192.0.2.1/32']);

    const third = { ...wanted, addresses: ['192.0.2.1/32'] };
    assert.deepEqual([...(await reconcileLink(link.driver, ledger, third)).refused], []);
    assert.ok(ours(await link.driver.read(link.name)).includes(routeKey(WANTED.routes[0]!)));

    // With the last address of IPv4 all its routes go, and are put back.
    const fourth = { ...wanted, addresses: [] };
    assert.deepEqual([...(await reconcileLink(link.driver, ledger, fourth)).refused], []);
    assert.deepEqual(ours(await link.driver.read(link.name)), WANTED.routes.map(routeKey).sort());
  });

  it('takes away what is ours and leaves what somebody else has set', async () => {
    await using link = await open();
    const ledger = new MemoryLedger();
    await link.setAddress('10.7.0.1/24');
    await reconcileLink(link.driver, ledger, { ...WANTED, interface: link.name });
    const other: Rule = { kind: 'main_but_default', family: 4, priority: 31_000 };
    await link.driver.apply(link.name, [{ kind: 'add_rule', rule: other }]);
    const { foreign, refused } = await undoLink(link.driver, ledger, link.name);
    assert.deepEqual([...refused], []);
    assert.deepEqual(foreign, { addresses: ['10.7.0.1/24'], routes: [] });
    const found = await link.driver.read(link.name);
    assert.deepEqual(owned(found), ['10.7.0.1/24']);
    assert.deepEqual(ours(found), []);
    assert.deepEqual(found.rules, [other]);
  });

  it('tells which step was refused, and takes those behind it', async () => {
    await using link = await open();
    const route = (prefix: string): Route => ({ prefix, table: MAIN_TABLE });
    const refusals = await link.driver.apply(link.name, [
      { kind: 'up' },
      { kind: 'remove_route', route: route('10.5.0.0/16') },
      { kind: 'add_route', route: route('10.6.0.0/16') },
      { kind: 'add_route', route: route('10.6.0.0/16') },
      { kind: 'remove_address', address: 'fd07::1/64' },
      { kind: 'add_route', route: route('10.8.0.0/16') },
    ]);
    assert.deepEqual(
      refusals.map(({ step }) => step),
      [
        { kind: 'remove_route', route: route('10.5.0.0/16') },
        { kind: 'add_route', route: route('10.6.0.0/16') },
        { kind: 'remove_address', address: 'fd07::1/64' },
      ],
    );
    assert.deepEqual(ours(await link.driver.read(link.name)), ['10.6.0.0/16 table 254', '10.8.0.0/16 table 254']);
  });

  it('can be killed between steps, begun anew, and undone', async () => {
    await using link = await open();
    const wanted = { ...WANTED, interface: link.name };
    const ledger = new MemoryLedger();
    for (let taken = 0; ; taken += stride) {
      const found = await link.driver.read(link.name);
      const { steps } = planLink(wanted, found, ledger.record);
      await ledger.write(recordAfter(ledger.record, found, steps, link.driver.marksRoutes));
      await link.driver.apply(link.name, steps.slice(0, taken));
      assert.deepEqual([...(await reconcileLink(link.driver, ledger, wanted)).refused], []);
      assert.deepEqual(owned(await link.driver.read(link.name)), [...WANTED.addresses].sort());
      await undoLink(link.driver, ledger, link.name);
      const left = await link.driver.read(link.name);
      assert.deepEqual([owned(left), ours(left), left.rules], [[], [], []]);
      if (taken >= steps.length) return;
    }
  });
}
