// What a network asks of its interface: addresses, MTU and the routes that follow from its peers' prefixes. Packets of the tunnel
// itself must not be routed into it. Where all the rest is, they are told apart by a mark: what doesn't carry it goes by a table of
// the network's own, behind the main table without its default route. Pure.
import { type FieldViolation, invalid } from '../../core/errors.ts';
import type { NetworkSpec } from '../../core/network/network-spec.ts';
import { isDefaultPrefix } from '../../core/network/prefix.ts';
import { MAIN_TABLE, type Route, type Rule, routeKey, type WantedLink } from './link.ts';

/** Below the main table's, at 32766, and apart from what people choose for themselves. */
const FIRST_PRIORITY = 32_000;
const PRIORITY_SLOTS = 350;

/**
 * What is wanted of the link of this name, which the system may have chosen. `hasRules` false: this system can't tell the
 * tunnel's own packets apart; a default route is then `invalid`.
 */
export function wantedLink(spec: NetworkSpec, name: string, hasRules: boolean): WantedLink {
  const routes = new Map<string, Route>();
  const rules: Rule[] = [];
  const violations: FieldViolation[] = [];
  for (const { field, prefix } of spec.table === 'off' ? [] : routedPrefixes(spec)) {
    const apart = spec.table === 'main' && isDefaultPrefix(prefix);
    if (apart && !hasRules) {
      const description = `${prefix} would route the tunnel's own packets into the tunnel on this system; name the prefixes that are meant, or set table to "off" and route yourself`;
      violations.push({ field, description });
    }
    const table = spec.table === 'main' ? MAIN_TABLE : spec.table;
    const route = { prefix, table: apart ? spec.fwmark : (table as number) };
    if (apart && !routes.has(routeKey(route))) rules.push(...rulesFor(prefix.includes(':') ? 6 : 4, spec.fwmark));
    routes.set(routeKey(route), route);
  }
  if (violations.length > 0) throw invalid(violations);
  const { addresses, mtu } = spec;
  return { interface: name, mtu, up: true, addresses, routes: [...routes.values()], rules };
}

function* routedPrefixes(spec: NetworkSpec): Generator<{ readonly field: string; readonly prefix: string }> {
  for (const [place, peer] of spec.peers.entries()) {
    for (const prefix of peer.prefixes) yield { field: `peers[${place}].allowed_ips`, prefix };
  }
  for (const prefix of spec.routes) yield { field: 'routes', prefix };
}

function rulesFor(family: 4 | 6, mark: number): readonly Rule[] {
  const priority = FIRST_PRIORITY + 2 * (mark % PRIORITY_SLOTS);
  return [
    { kind: 'unmarked', family, priority: priority + 1, mark, table: mark },
    { kind: 'main_but_default', family, priority },
  ];
}
