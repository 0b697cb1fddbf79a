// What Linux does with steps, without Linux: the rules that plans rely on. Held to the real one by link-contract.ts.
import {
  type FoundLink,
  type FoundRoute,
  type LinkRecord,
  type LinkStep,
  MAIN_TABLE,
  type Origin,
  type Route,
  type Rule,
  routeKey,
  ruleKey,
} from '../../../src/capabilities/network/link.ts';
import type { LinkLedger } from '../../../src/capabilities/network/link-reconcile.ts';
import type { LinkDriver, LinkRefusal } from '../../../src/capabilities/network/ports.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { parsePrefix } from '../../../src/core/network/prefix.ts';

const isV6 = (text: string) => text.includes(':');

/** A ledger in memory. */
export class MemoryLedger implements LinkLedger {
  record: LinkRecord = { identity: '', addresses: [], routes: [], rules: [] };
  writes = 0;

  async read(): Promise<LinkRecord> {
    return this.record;
  }

  async write(record: LinkRecord): Promise<void> {
    this.writes += 1;
    this.record = structuredClone(record);
  }
}

/** One interface of a Linux in memory. */
export class LinkModel implements LinkDriver {
  /** False: nothing tells our routes from others', as on macOS and Windows. */
  marksRoutes = true;
  readonly hasRules = true;
  state: FoundLink['state'] = 'down';
  mtu = 1500;
  /** In the order in which they came: the first of a subnet is its primary. */
  readonly addresses = new Map<string, Origin>();
  routes: FoundRoute[] = [];
  rules: Rule[] = [];
  losesSecondaries = true;
  /** Every step that was asked for. */
  readonly steps: LinkStep[] = [];
  /** Called before each step; throwing is a kill. */
  onStep: (step: LinkStep) => void = () => undefined;

  async read(): Promise<FoundLink> {
    return {
      state: this.state,
      identity: '7',
      mtu: this.mtu,
      addresses: new Map(this.addresses),
      routes: [...this.routes],
      rules: [...this.rules],
      losesSecondaries: this.losesSecondaries,
      connectsSubnets: true,
    };
  }

  async apply(_name: string, steps: readonly LinkStep[]): Promise<readonly LinkRefusal[]> {
    const refusals: LinkRefusal[] = [];
    for (const step of steps) {
      this.onStep(step);
      this.steps.push(step);
      const why = this.#take(step);
      if (why !== undefined) refusals.push({ step, error: new LonglineError('invalid', why) });
    }
    return refusals;
  }

  /** Sets an address as somebody does. */
  addAddress(address: string): string | undefined {
    if (this.addresses.has(address)) return 'File exists';
    this.addresses.set(address, 'unknown');
    if (this.state === 'up') this.#connect(address);
    return undefined;
  }

  #take(step: LinkStep): string | undefined {
    switch (step.kind) {
      case 'mtu':
        this.mtu = step.mtu;
        return undefined;
      case 'up':
        this.state = 'up';
        for (const address of this.addresses.keys()) this.#connect(address);
        return undefined;
      case 'keep_secondaries':
        this.losesSecondaries = false;
        return undefined;
      case 'add_address':
        return this.addAddress(step.address);
      case 'remove_address':
        return this.#removeAddress(step.address);
      case 'add_route':
        return this.#addRoute(step.route);
      case 'remove_route':
        return this.#removeRoute(step.route);
      case 'add_rule':
        if (this.rules.some((rule) => ruleKey(rule) === ruleKey(step.rule))) return 'File exists';
        this.rules.push(step.rule);
        return undefined;
      case 'remove_rule':
        this.rules = this.rules.filter((rule) => ruleKey(rule) !== ruleKey(step.rule));
        return undefined;
    }
  }

  #addRoute(route: Route): string | undefined {
    if (this.state !== 'up') return 'Device for nexthop is not up.';
    // The kernel's own has another metric in IPv6, and there is room for both.
    const twin = this.routes.some(
      (other) => routeKey(other) === routeKey(route) && !(isV6(route.prefix) && other.origin === 'system'),
    );
    if (twin) return 'File exists';
    this.routes.push({ ...route, origin: this.marksRoutes ? 'ours' : 'unknown' });
    return undefined;
  }

  #removeRoute(route: Route): string | undefined {
    const origin = this.marksRoutes ? 'ours' : 'unknown';
    const place = this.routes.findIndex((other) => other.origin === origin && routeKey(other) === routeKey(route));
    if (place < 0) return 'No such process';
    this.routes.splice(place, 1);
    return undefined;
  }

  #connect(address: string): void {
    const prefix = parsePrefix(address)!;
    if (!isV6(prefix) && prefix.endsWith('/32')) return;
    const there = this.routes.some((route) => route.origin === 'system' && route.prefix === prefix);
    if (!there) this.routes.push({ prefix, table: MAIN_TABLE, origin: 'system' });
  }

  #removeAddress(address: string): string | undefined {
    const subnet = parsePrefix(address)!;
    const sharing = () => [...this.addresses.keys()].filter((other) => parsePrefix(other) === subnet);
    const isPrimary = sharing()[0] === address;
    if (!this.addresses.delete(address)) return 'Cannot assign requested address';
    if (!isV6(address) && isPrimary && this.losesSecondaries) {
      for (const other of sharing()) this.addresses.delete(other);
    }
    if (sharing().length === 0) {
      this.routes = this.routes.filter((route) => !(route.origin === 'system' && route.prefix === subnet));
    }
    const lastOfIpv4 = !isV6(address) && ![...this.addresses.keys()].some((other) => !isV6(other));
    if (lastOfIpv4) this.routes = this.routes.filter((route) => isV6(route.prefix));
    return undefined;
  }
}
