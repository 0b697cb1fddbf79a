// What is said to iproute2's `ip` and what it answers. Routes and rules of ours carry protocol 76, the letter L: no other
// program of the list in rt_protos has it, and nothing that doesn't carry it is ever removed. Pure.
import type { FoundLink, FoundRoute, LinkStep, Origin, Route, Rule } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';

/** Protocol number of routes and rules that are ours. */
export const OUR_PROTOCOL = 76;

const KERNEL_PROTOCOL = '2';
const LOCAL_TABLE = '255';
const MAIN_TABLE = '254';
const UNICAST = '1';
const LINK_SCOPE = '253';

/**
 * Lines that read what an interface has. The rules come first: they are to be had without the interface. The link comes last:
 * in a batch "address show" behind "link show" shows links (iproute2 6.1), and before it no link without addresses.
 */
export function readLines(name: string): string {
  return `rule show\naddress show dev ${name}\nroute show table all dev ${name}\nlink show dev ${name}\n`;
}

/** The line that takes a step; undefined for a step that isn't `ip`'s. */
export function stepLine(name: string, step: LinkStep): string | undefined {
  switch (step.kind) {
    case 'mtu':
      return `link set dev ${name} mtu ${step.mtu}`;
    case 'up':
      return `link set dev ${name} up`;
    case 'keep_secondaries':
      return undefined;
    case 'add_address':
      return `address add ${step.address} dev ${name}`;
    case 'remove_address':
      return `address del ${step.address} dev ${name}`;
    case 'add_route':
      return `route add ${routeWords(name, step.route)}`;
    case 'remove_route':
      return `route del ${routeWords(name, step.route)}`;
    case 'add_rule':
      return `rule add ${ruleWords(step.rule)}`;
    case 'remove_rule':
      return `rule del ${ruleWords(step.rule)}`;
  }
}

function routeWords(name: string, { prefix, table }: Route): string {
  return `${prefix} dev ${name} table ${table} protocol ${OUR_PROTOCOL}`;
}

function ruleWords(rule: Rule): string {
  const what =
    rule.kind === 'unmarked'
      ? `not fwmark ${rule.mark} lookup ${rule.table}`
      : `lookup ${MAIN_TABLE} suppress_prefixlength 0`;
  return `priority ${rule.priority} ${what} protocol ${OUR_PROTOCOL}`;
}

/** Line numbers, from 1, and what was said of each, of lines that `ip -force -batch` could not carry out. */
export function failedLines(stderr: string): ReadonlyMap<number, string> {
  const failed = new Map<number, string>();
  let said: string[] = [];
  for (const line of stderr.split('\n')) {
    const number = /^Command failed .*:(\d+)$/.exec(line)?.[1];
    if (number === undefined) {
      said.push(line.replace(/^(RTNETLINK answers|Error): /, ''));
      continue;
    }
    failed.set(Number(number), said.join(' ').trim().slice(0, 300));
    said = [];
  }
  return failed;
}

interface IpLink {
  readonly ifindex?: number;
  readonly mtu?: number;
  readonly flags?: readonly string[];
}
interface IpAddresses {
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number; readonly scope?: string }[];
}
interface IpRoute {
  readonly type?: string;
  readonly dst: string;
  readonly table?: string;
  readonly protocol?: string;
  readonly gateway?: string;
}
interface IpRule {
  readonly priority: number;
  readonly not?: null;
  readonly fwmark?: string;
  readonly fwmask?: string;
  readonly table?: string;
  readonly suppress_prefixlen?: number;
  readonly protocol?: string;
}

/** What one family has: the answers to `readLines`, a line of JSON each. */
export interface FamilyAnswer {
  readonly family: 4 | 6;
  readonly stdout: string;
}

/** Puts the answers of both families together. Addresses and prefixes come in the form that specs have. */
export function decodeLink(answers: readonly FamilyAnswer[], losesSecondaries: boolean): FoundLink {
  const addresses = new Map<string, Origin>();
  const routes: FoundRoute[] = [];
  const rules: Rule[] = [];
  let device: IpLink | undefined;
  for (const { family, stdout } of answers) {
    const [rulesFound, addressesFound, routesFound, links] = jsonLines(stdout);
    rules.push(...((rulesFound ?? []) as IpRule[]).flatMap((rule) => ruleOf(family, rule)));
    device ??= (links as IpLink[] | undefined)?.[0];
    for (const { addr_info } of (addressesFound ?? []) as IpAddresses[]) {
      for (const { local, prefixlen, scope } of addr_info ?? []) {
        // Those of the link itself makes the kernel.
        const origin = family === 6 && scope === LINK_SCOPE ? 'system' : 'unknown';
        addresses.set(`${local}/${prefixlen}`, origin);
      }
    }
    routes.push(...((routesFound ?? []) as IpRoute[]).flatMap((route) => routeOf(family, route)));
  }
  const isUp = device?.flags?.includes('UP') === true;
  return {
    state: device === undefined ? 'absent' : isUp ? 'up' : 'down',
    identity: device === undefined ? '' : String(device.ifindex),
    mtu: device?.mtu ?? 0,
    addresses,
    routes,
    rules,
    losesSecondaries,
    connectsSubnets: true,
  };
}

function jsonLines(text: string): readonly (readonly unknown[])[] {
  try {
    return text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => JSON.parse(line) as readonly unknown[]);
  } catch (error) {
    throw new LonglineError('internal', '`ip` gave an answer that is no JSON', { cause: error });
  }
}

function routeOf(family: 4 | 6, route: IpRoute): FoundRoute[] {
  const { dst, protocol, table = MAIN_TABLE, type = UNICAST } = route;
  if (table === LOCAL_TABLE || type !== UNICAST) return [];
  const whole = family === 4 ? '/32' : '/128';
  const any = family === 4 ? '0.0.0.0/0' : '::/0';
  const prefix = dst === 'default' ? any : dst.includes('/') ? dst : `${dst}${whole}`;
  const origin =
    protocol === String(OUR_PROTOCOL) ? 'ours' : protocol === KERNEL_PROTOCOL ? 'system' : ('foreign' as const);
  return [{ prefix, table: Number(table), origin }];
}

/** A rule of ours; nothing for any other. */
function ruleOf(family: 4 | 6, rule: IpRule): Rule[] {
  if (rule.protocol !== String(OUR_PROTOCOL)) return [];
  const { priority } = rule;
  if (rule.suppress_prefixlen === 0 && rule.table === MAIN_TABLE)
    return [{ kind: 'main_but_default', family, priority }];
  if (rule.not === undefined || rule.fwmark === undefined || rule.fwmask !== undefined) return [];
  return [{ kind: 'unmarked', family, priority, mark: Number(rule.fwmark), table: Number(rule.table) }];
}
