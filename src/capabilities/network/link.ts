// A network interface as the system's routing sees it: addresses, MTU, routes and rules, in the same form for what is wanted and
// for what is found. Nothing of WireGuard is known here. Pure.

/** Number of the table that Linux routes by unless told otherwise. */
export const MAIN_TABLE = 254;

/** A route to the interface itself, without a gateway. */
export interface Route {
  /** Canonical. */
  readonly prefix: string;
  /** Number of a routing table. Systems that have only one know MAIN_TABLE alone. */
  readonly table: number;
}

/** A rule that picks a routing table. Those of smaller priority are asked first. */
export type Rule =
  /** Packets that don't carry the mark go by the table. */
  | {
      readonly kind: 'unmarked';
      readonly family: 4 | 6;
      readonly priority: number;
      readonly mark: number;
      readonly table: number;
    }
  /** The main table goes first, all but its default route. */
  | { readonly kind: 'main_but_default'; readonly family: 4 | 6; readonly priority: number };

/**
 * Whose something is, as far as the system itself tells: `ours` carries our mark, `system` made the system by itself,
 * `foreign` carries somebody else's mark, `unknown` carries none, and only a record of what we did can tell.
 */
export type Origin = 'ours' | 'system' | 'foreign' | 'unknown';

/** The interface that is wanted. */
export interface WantedLink {
  readonly interface: string;
  /** Undefined leaves alone what is there, as `up` false does. */
  readonly mtu: number | undefined;
  readonly up: boolean;
  /** With prefix length: "10.42.0.7/16". */
  readonly addresses: readonly string[];
  readonly routes: readonly Route[];
  readonly rules: readonly Rule[];
}

/** A route as it is found. */
export interface FoundRoute extends Route {
  readonly origin: Origin;
}

/** The interface that is found. */
export interface FoundLink {
  readonly state: 'absent' | 'down' | 'up';
  /** Tells it from interfaces that had the name before; empty if the system doesn't tell. */
  readonly identity: string;
  readonly mtu: number;
  readonly addresses: ReadonlyMap<string, Origin>;
  readonly routes: readonly FoundRoute[];
  /** Those that carry our mark, of whatever interface. */
  readonly rules: readonly Rule[];
  /** True: removing an address removes the others of its subnet that came after it. */
  readonly losesSecondaries: boolean;
  /** True: the system itself routes the subnet of an address to the interface. */
  readonly connectsSubnets: boolean;
}

/** One step. */
export type LinkStep =
  | { readonly kind: 'mtu'; readonly mtu: number }
  | { readonly kind: 'up' }
  /** From here on an address is removed without the others of its subnet. */
  | { readonly kind: 'keep_secondaries' }
  | { readonly kind: 'add_address' | 'remove_address'; readonly address: string }
  | { readonly kind: 'add_route' | 'remove_route'; readonly route: Route }
  | { readonly kind: 'add_rule' | 'remove_rule'; readonly rule: Rule };

/** What was set by us on an interface, or is about to be: the only witness where the system keeps none. */
export interface LinkRecord {
  readonly identity: string;
  readonly addresses: readonly string[];
  /** Empty where routes carry our mark. */
  readonly routes: readonly Route[];
  readonly rules: readonly Rule[];
}

export const EMPTY_RECORD: LinkRecord = { identity: '', addresses: [], routes: [], rules: [] };

/** Equal for equal routes. */
export function routeKey({ prefix, table }: Route): string {
  return `${prefix} table ${table}`;
}

/** Equal for equal rules. */
export function ruleKey(rule: Rule): string {
  const what = rule.kind === 'unmarked' ? `not mark ${rule.mark} table ${rule.table}` : 'main but default';
  return `IPv${rule.family} priority ${rule.priority} ${what}`;
}

/** Equal for equal steps, and fit for people: "add_route 10.0.0.0/8 table 254". */
export function stepKey(step: LinkStep): string {
  switch (step.kind) {
    case 'mtu':
      return `mtu ${step.mtu}`;
    case 'up':
    case 'keep_secondaries':
      return step.kind;
    case 'add_address':
    case 'remove_address':
      return `${step.kind} ${step.address}`;
    case 'add_route':
    case 'remove_route':
      return `${step.kind} ${routeKey(step.route)}`;
    case 'add_rule':
    case 'remove_rule':
      return `${step.kind} ${ruleKey(step.rule)}`;
  }
}
