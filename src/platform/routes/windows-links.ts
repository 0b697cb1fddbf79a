// Interfaces of Windows: read as JSON through PowerShell, whose names no language of the system changes, and written through netsh,
// in the active store, so that a boot forgets them. Nothing says of a route whose it is, so the record does. Each step is a process.
// Proven to the exact commands and to the JSON that the script is written to give: never run on Windows. Needs an administrator.
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
/** PowerShell needs seconds to start on a busy machine. */
const READ_TIMEOUT_MS = 60_000;

interface WindowsLink {
  readonly guid: string;
  readonly status: string;
  readonly mtu: readonly { readonly family: string; readonly value: number }[];
  readonly addresses: readonly { readonly address: string; readonly length: number; readonly origin: string }[];
  readonly routes: readonly { readonly prefix: string; readonly hop: string; readonly protocol: string }[];
}

/** The system's interfaces. Holds nothing between calls. */
export class WindowsLinks implements LinkDriver {
  readonly marksRoutes = false;
  readonly hasRules = false;
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  async read(name: string, signal?: AbortSignal): Promise<FoundLink> {
    const argv = ['powershell.exe', '-NoProfile', '-NonInteractive', '-Command', readScript(name)] as const;
    const { code, stderr, stdout } = await this.#run({ argv, timeoutMs: READ_TIMEOUT_MS }, signal);
    if (code !== 0) throw new LonglineError('unavailable', `"${name}" can't be read: ${stderr.trim().slice(0, 300)}`);
    const found = parse(stdout);
    const mtus = new Set(found?.mtu.map(({ value }) => value));
    return {
      state: found === undefined ? 'absent' : found.status === 'Down' ? 'down' : 'up',
      identity: found?.guid ?? '',
      // Each family has its own; if they differ, none is the interface's.
      mtu: mtus.size === 1 ? [...mtus][0]! : 0,
      addresses: new Map(
        found?.addresses.map(({ address, length, origin }): [string, Origin] => {
          return [`${address.replace(/%.*/, '')}/${length}`, origin === 'Manual' ? 'unknown' : 'system'];
        }),
      ),
      routes: found?.routes.flatMap(routeOf) ?? [],
      rules: [],
      losesSecondaries: false,
      connectsSubnets: true,
    };
  }

  apply(name: string, steps: readonly LinkStep[], signal?: AbortSignal): Promise<readonly LinkRefusal[]> {
    return takeSteps(this.#run, steps, (step) => commandsOf(name, step), signal);
  }
}

/** Names of interfaces have no quotes; see the spec of networks. */
function readScript(name: string): string {
  const at = `-InterfaceAlias '${name}' -ErrorAction SilentlyContinue`;
  return [
    `$a = Get-NetAdapter -Name '${name}' -ErrorAction SilentlyContinue`,
    "if ($null -eq $a) { 'null'; exit 0 }",
    `$m = @(Get-NetIPInterface ${at} | ForEach-Object { @{ family = "$($_.AddressFamily)"; value = $_.NlMtu } })`,
    `$i = @(Get-NetIPAddress ${at} | ForEach-Object { @{ address = $_.IPAddress; length = $_.PrefixLength; origin = "$($_.PrefixOrigin)" } })`,
    `$r = @(Get-NetRoute ${at} | ForEach-Object { @{ prefix = $_.DestinationPrefix; hop = $_.NextHop; protocol = "$($_.Protocol)" } })`,
    '@{ guid = $a.InterfaceGuid; status = "$($a.AdminStatus)"; mtu = $m; addresses = $i; routes = $r } | ConvertTo-Json -Depth 3 -Compress',
  ].join('; ');
}

function parse(stdout: string): WindowsLink | undefined {
  try {
    return (JSON.parse(stdout) as WindowsLink | null) ?? undefined;
  } catch (error) {
    throw new LonglineError('internal', 'PowerShell gave an answer that is no JSON', { cause: error });
  }
}

function routeOf({ prefix, hop, protocol }: WindowsLink['routes'][number]): FoundRoute[] {
  if (/^(22[4-9]|23\d|255)\.|^ff|^fe80:/.test(prefix)) return [];
  const onLink = hop === '0.0.0.0' || hop === '::';
  const origin = protocol === 'Local' ? 'system' : onLink ? 'unknown' : 'foreign';
  return [{ prefix, table: MAIN_TABLE, origin }];
}

function commandsOf(name: string, step: LinkStep): readonly Argv[] {
  switch (step.kind) {
    case 'mtu':
      return (['ipv4', 'ipv6'] as const).map((family) => {
        return ['netsh', 'interface', family, 'set', 'subinterface', name, `mtu=${step.mtu}`, 'store=active'];
      });
    case 'up':
      return [['netsh', 'interface', 'set', 'interface', `name=${name}`, 'admin=enabled']];
    case 'add_address':
    case 'remove_address': {
      const { address } = step;
      const [family, interfaceKey] = address.includes(':') ? ['ipv6', 'interface'] : ['ipv4', 'name'];
      const [verb, value] = step.kind === 'add_address' ? ['add', address] : ['delete', address.split('/')[0]];
      const words = ['interface', family!, verb!, 'address', `${interfaceKey}=${name}`, `address=${value}`];
      return [['netsh', ...words, 'store=active']];
    }
    case 'add_route':
    case 'remove_route': {
      const { prefix, table } = step.route;
      if (table !== MAIN_TABLE) noRules(step);
      const family = prefix.includes(':') ? 'ipv6' : 'ipv4';
      const verb = step.kind === 'add_route' ? 'add' : 'delete';
      return [['netsh', 'interface', family, verb, 'route', `prefix=${prefix}`, `interface=${name}`, 'store=active']];
    }
    case 'keep_secondaries':
    case 'add_rule':
    case 'remove_rule':
      return noRules(step);
  }
}
