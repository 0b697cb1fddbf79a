// The smallest steps from the interface that is found to the one that is wanted. What stays is not touched, what is somebody
// else's is neither changed nor removed, and new ways are there before old ones go. Pure.

import { parsePrefix } from '../../core/network/prefix.ts';
import {
  type FoundLink,
  type LinkRecord,
  type LinkStep,
  MAIN_TABLE,
  type Origin,
  type Route,
  type Rule,
  routeKey,
  ruleKey,
  type WantedLink,
} from './link.ts';

/** Steps, and what of the interface is somebody else's and stays. */
export interface LinkPlan {
  readonly steps: readonly LinkStep[];
  readonly foreign: { readonly addresses: readonly string[]; readonly routes: readonly Route[] };
}

/** Compares and plans. A plan for equal states has no steps. */
export function planLink(wanted: WantedLink, found: FoundLink, record: LinkRecord): LinkPlan {
  const addresses = planAddresses(wanted, found, record);
  const routes = planRoutes(wanted, found, record, addresses);
  const rules = planRules(wanted, found, record);
  const needsSecondaries = found.losesSecondaries && !addresses.goingSubnets.isDisjointFrom(addresses.stayingSubnets);
  const steps: LinkStep[] = [
    ...(wanted.mtu === undefined || wanted.mtu === found.mtu ? [] : [{ kind: 'mtu', mtu: wanted.mtu } as const]),
    ...addresses.add.map((address) => ({ kind: 'add_address', address }) as const),
    ...(wanted.up && found.state === 'down' ? [{ kind: 'up' } as const] : []),
    ...routes.add.map((route) => ({ kind: 'add_route', route }) as const),
    ...rules.add.map((rule) => ({ kind: 'add_rule', rule }) as const),
    ...rules.remove.map((rule) => ({ kind: 'remove_rule', rule }) as const),
    ...routes.remove.map((route) => ({ kind: 'remove_route', route }) as const),
    // Addresses go last: with the last one of a family Linux lets all routes of that family go.
    ...(needsSecondaries ? [{ kind: 'keep_secondaries' } as const] : []),
    ...addresses.remove.map((address) => ({ kind: 'remove_address', address }) as const),
    ...routes.addLast.map((route) => ({ kind: 'add_route', route }) as const),
  ];
  return { steps, foreign: { addresses: addresses.foreign, routes: routes.foreign } };
}

/** The record of what is ours once the steps are taken or begun: what it holds and is still found, and what they add. */
export function recordAfter(
  record: LinkRecord,
  found: FoundLink,
  steps: readonly LinkStep[],
  marksRoutes: boolean,
): LinkRecord {
  const valid = sameInterface(record, found) ? record : { addresses: [], routes: [] };
  const foundRoutes = new Set(found.routes.map(routeKey));
  const foundRules = new Set(found.rules.map(ruleKey));
  const addresses = valid.addresses.filter((address) => found.addresses.has(address));
  const routes = marksRoutes ? [] : valid.routes.filter((route) => foundRoutes.has(routeKey(route)));
  const rules = record.rules.filter((rule) => foundRules.has(ruleKey(rule)));
  for (const step of steps) {
    if (step.kind === 'add_address') addresses.push(step.address);
    if (step.kind === 'add_route' && !marksRoutes) routes.push(step.route);
    if (step.kind === 'add_rule') rules.push(step.rule);
  }
  return { identity: found.identity, addresses, routes, rules };
}

interface AddressPlan {
  readonly add: readonly string[];
  readonly remove: readonly string[];
  readonly foreign: readonly string[];
  readonly addedSubnets: ReadonlySet<string>;
  readonly goingSubnets: ReadonlySet<string>;
  /** Of all addresses that are there afterwards. */
  readonly stayingSubnets: ReadonlySet<string>;
}

function planAddresses(wanted: WantedLink, found: FoundLink, record: LinkRecord): AddressPlan {
  const isWanted = new Set(wanted.addresses);
  const recorded = new Set(sameInterface(record, found) ? record.addresses : []);
  const add = wanted.addresses.filter((address) => !found.addresses.has(address));
  const others = [...found.addresses].filter(([address]) => !isWanted.has(address));
  const remove = others
    .filter(([address, origin]) => isOurs(origin, recorded.has(address)))
    .map(([address]) => address);
  const going = new Set(remove);
  const staying = [...found.addresses.keys(), ...add].filter((address) => !going.has(address));
  return {
    add,
    remove,
    foreign: others
      .filter(([address, origin]) => origin !== 'system' && !going.has(address))
      .map(([address]) => address),
    addedSubnets: new Set(add.map(subnetOf)),
    goingSubnets: new Set(remove.map(subnetOf)),
    stayingSubnets: new Set(staying.map(subnetOf)),
  };
}

interface RoutePlan {
  readonly add: readonly Route[];
  readonly remove: readonly Route[];
  /** Those that the system's own stand in the way of until an address has gone. */
  readonly addLast: readonly Route[];
  readonly foreign: readonly Route[];
}

function planRoutes(wanted: WantedLink, found: FoundLink, record: LinkRecord, addresses: AddressPlan): RoutePlan {
  const recorded = new Set((sameInterface(record, found) ? record.routes : []).map(routeKey));
  const ours = new Map<string, Route>();
  const others = new Map<string, { readonly route: Route; readonly origin: Origin }>();
  for (const { origin, prefix, table } of found.routes) {
    const route = { prefix, table };
    const key = routeKey(route);
    if (isOurs(origin, recorded.has(key))) ours.set(key, route);
    // The system's own says least about what stays.
    else if (origin !== 'system' || !others.has(key)) others.set(key, { route, origin });
  }
  const all = new Map(wantedRoutes(wanted, found).map((route) => [routeKey(route), route]));
  const add: Route[] = [];
  const addLast: Route[] = [];
  for (const [key, route] of all) {
    if (ours.has(key)) continue;
    const other = others.get(key);
    const stays = isConnected(route, addresses.stayingSubnets);
    if (other === undefined) {
      const appears = stays && (found.state !== 'up' || addresses.addedSubnets.has(route.prefix));
      if (!(appears && found.connectsSubnets)) add.push(route);
    } else if (other.origin === 'system' && !stays && addresses.goingSubnets.has(route.prefix)) addLast.push(route);
  }
  return {
    add,
    addLast,
    remove: [...ours].filter(([key]) => !all.has(key)).map(([, route]) => route),
    foreign: [...others]
      .filter(([key, { origin }]) => origin !== 'system' && !all.has(key))
      .map(([, { route }]) => route),
  };
}

/** Where the system doesn't route the subnets of addresses, it is asked to. */
function wantedRoutes(wanted: WantedLink, found: FoundLink): readonly Route[] {
  if (found.connectsSubnets) return wanted.routes;
  const subnets = wanted.addresses.map((address) => ({ prefix: subnetOf(address), table: MAIN_TABLE }));
  return [...wanted.routes, ...subnets];
}

function planRules(wanted: WantedLink, found: FoundLink, record: LinkRecord) {
  const present = new Set(found.rules.map(ruleKey));
  const keep = new Set(wanted.rules.map(ruleKey));
  const recorded = new Set(record.rules.map(ruleKey));
  // Rules of other networks carry our mark too.
  const going = found.rules.filter((rule) => recorded.has(ruleKey(rule)) && !keep.has(ruleKey(rule)));
  // Without the main table before it, the other one would lead what is for the local network into the tunnel.
  return {
    add: wanted.rules.filter((rule) => !present.has(ruleKey(rule))).toSorted(byMainFirst),
    remove: going.toSorted((one, other) => byMainFirst(other, one)),
  };
}

function byMainFirst(one: Rule, other: Rule): number {
  return Number(other.kind === 'main_but_default') - Number(one.kind === 'main_but_default');
}

function sameInterface(record: LinkRecord, found: FoundLink): boolean {
  return record.identity === found.identity;
}

function isOurs(origin: Origin, recorded: boolean): boolean {
  return origin === 'ours' || (origin === 'unknown' && recorded);
}

function isConnected(route: Route, subnets: ReadonlySet<string>): boolean {
  // A single IPv4 address makes no route but to itself, in a table of the system's.
  const single = route.prefix.endsWith('/32') && !route.prefix.includes(':');
  return route.table === MAIN_TABLE && !single && subnets.has(route.prefix);
}

function subnetOf(address: string): string {
  return parsePrefix(address) ?? address;
}
