// Interfaces of macOS, through ifconfig, route and netstat. There is one routing table, and nothing says of a route whose it is, so
// the record does. Each step is a process. Proven to the exact commands, and to what the tools are documented to print: never run
// on a Mac. Needs root for what it writes.
import type {
  FoundLink,
  FoundRoute,
  LinkDriver,
  LinkRefusal,
  LinkStep,
  Origin,
} from '../../capabilities/network/ports.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';
import { type Argv, noRules, takeSteps } from './stepwise.ts';

const MAIN_TABLE = 254;

/** The kernel's interfaces. Holds nothing between calls. */
export class MacosLinks implements LinkDriver {
  readonly marksRoutes = false;
  readonly hasRules = false;
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  async read(name: string, signal?: AbortSignal): Promise<FoundLink> {
    const shown = await this.#run({ argv: ['ifconfig', name] }, signal);
    const absent = /does not exist/.test(shown.stderr);
    if (shown.code !== 0 && !absent) throw unreadable(`ifconfig ${name}`, shown.stderr);
    const addresses = absent ? new Map<string, Origin>() : addressesOf(shown.stdout);
    const routes: FoundRoute[] = [];
    for (const family of ['inet', 'inet6'] as const) {
      if (absent) break;
      const { code, stderr, stdout } = await this.#run({ argv: ['netstat', '-rnW', '-f', family] }, signal);
      if (code !== 0) throw unreadable('netstat', stderr);
      routes.push(...routesOf(stdout, family, name, addresses));
    }
    const flags = /flags=\w+<([^>]*)>/.exec(shown.stdout)?.[1]?.split(',') ?? [];
    return {
      state: absent ? 'absent' : flags.includes('UP') ? 'up' : 'down',
      identity: '',
      mtu: Number(/\bmtu (\d+)/.exec(shown.stdout)?.[1] ?? 0),
      addresses,
      routes,
      rules: [],
      losesSecondaries: false,
      connectsSubnets: false,
    };
  }

  apply(name: string, steps: readonly LinkStep[], signal?: AbortSignal): Promise<readonly LinkRefusal[]> {
    return takeSteps(this.#run, steps, (step) => commandsOf(name, step), signal);
  }
}

function unreadable(what: string, stderr: string): LonglineError {
  return new LonglineError('unavailable', `${what} failed: ${stderr.trim().slice(0, 300)}`);
}

function commandsOf(name: string, step: LinkStep): readonly Argv[] {
  switch (step.kind) {
    case 'mtu':
      return [['ifconfig', name, 'mtu', String(step.mtu)]];
    case 'up':
      return [['ifconfig', name, 'up']];
    case 'add_address':
      // The interface leads to one far end, which has to have an address; ours will do.
      return step.address.includes(':')
        ? [['ifconfig', name, 'inet6', step.address, 'alias']]
        : [['ifconfig', name, 'inet', step.address, bare(step.address), 'alias']];
    case 'remove_address':
      return [['ifconfig', name, familyOf(step.address), bare(step.address), '-alias']];
    case 'add_route':
    case 'remove_route': {
      const { prefix, table } = step.route;
      if (table !== MAIN_TABLE) noRules(step);
      const verb = step.kind === 'add_route' ? 'add' : 'delete';
      return [['route', '-n', verb, `-${familyOf(prefix)}`, prefix, '-interface', name]];
    }
    case 'keep_secondaries':
    case 'add_rule':
    case 'remove_rule':
      return noRules(step);
  }
}

function familyOf(prefix: string): 'inet' | 'inet6' {
  return prefix.includes(':') ? 'inet6' : 'inet';
}

function bare(address: string): string {
  return address.split('/')[0]!;
}

function addressesOf(text: string): Map<string, Origin> {
  const addresses = new Map<string, Origin>();
  for (const [, address, mask] of text.matchAll(/^\s+inet (\S+).* netmask 0x([0-9a-f]{8})/gm)) {
    const length = Number.parseInt(mask!, 16).toString(2).replaceAll('0', '').length;
    addresses.set(`${address}/${length}`, 'unknown');
  }
  for (const [, address, length] of text.matchAll(/^\s+inet6 (\S+) prefixlen (\d+)/gm)) {
    const isLocal = address!.startsWith('fe80:');
    addresses.set(`${address!.replace(/%.*/, '')}/${length}`, isLocal ? 'system' : 'unknown');
  }
  return addresses;
}

/** Rows of netstat that lead to the interface. The kernel itself makes those to addresses, of the link and to groups. */
function routesOf(
  text: string,
  family: 'inet' | 'inet6',
  name: string,
  addresses: ReadonlyMap<string, Origin>,
): readonly FoundRoute[] {
  const own = new Set([...addresses.keys()].map(bare));
  const rows = text.split('\n').map((line) => line.trim().split(/\s+/));
  const column = rows.find(([first]) => first === 'Destination')?.indexOf('Netif') ?? -1;
  return rows
    .filter((row) => column > 0 && row[column] === name)
    .flatMap(([destination]): FoundRoute[] => {
      const prefix = wholePrefix(destination!, family);
      if (/^(22[4-9]|23\d|255)\.|^ff|^fe80:/.test(prefix)) return [];
      return [{ prefix, table: MAIN_TABLE, origin: own.has(bare(prefix)) && isWhole(prefix) ? 'system' : 'unknown' }];
    });
}

function isWhole(prefix: string): boolean {
  return prefix.endsWith(prefix.includes(':') ? '/128' : '/32');
}

/** netstat leaves out bytes of zero at the end, and lengths that follow from the class: "10.42/16", "192.0.2", "10". */
function wholePrefix(destination: string, family: 'inet' | 'inet6'): string {
  if (destination === 'default') return family === 'inet' ? '0.0.0.0/0' : '::/0';
  const [address, length] = destination.replace(/%\w+/, '').split('/') as [string, string | undefined];
  if (family === 'inet6') return `${address}/${length ?? 128}`;
  const bytes = address.split('.');
  const byClass = Number(bytes[0]) < 128 ? 8 : Number(bytes[0]) < 192 ? 16 : 24;
  const whole = [...bytes, '0', '0', '0'].slice(0, 4).join('.');
  return `${whole}/${length ?? (bytes.length === 4 ? 32 : byClass)}`;
}
