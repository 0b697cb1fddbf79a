// Name servers of an interface on Windows, which asks those of all interfaces: there is no saying which names are asked where. Read
// through PowerShell, written through netsh. Proven to the exact commands: never run on Windows. Needs an administrator.
import type { NameServers, NameServersProbe, WantedNameServers } from '../../capabilities/network/ports.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';

const FAMILIES = ['ipv4', 'ipv6'] as const;
type Family = (typeof FAMILIES)[number];

/** The interfaces of this host. */
export class NetshNameServers implements NameServers {
  readonly kind = 'netsh';
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  async probe(): Promise<NameServersProbe> {
    return { kind: 'in_use' };
  }

  async apply(name: string, wanted: WantedNameServers, signal?: AbortSignal): Promise<readonly string[]> {
    for (const family of FAMILIES) {
      const servers = wanted.servers.filter((server) => server.includes(':') === (family === 'ipv6'));
      const found = await this.#found(name, family, signal);
      if (found.join(' ') !== servers.join(' ')) await this.#set(name, family, servers, signal);
    }
    if (wanted.domains.length === 0) return [];
    return [`Windows asks the name servers of ${name} for all names, and searches no domains of it`];
  }

  async remove(name: string, signal?: AbortSignal): Promise<void> {
    for (const family of FAMILIES) {
      if ((await this.#found(name, family, signal)).length > 0) await this.#set(name, family, [], signal);
    }
  }

  async #set(name: string, family: Family, servers: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const [first, ...others] = servers;
    // Nobody may be there to answer yet, and only this host needs to know.
    const words =
      first === undefined ? ['source=dhcp'] : ['source=static', `address=${first}`, 'register=none', 'validate=no'];
    await this.#netsh(['interface', family, 'set', 'dnsservers', `name=${name}`, ...words], signal);
    for (const [place, server] of others.entries()) {
      const more = [`name=${name}`, `address=${server}`, `index=${place + 2}`, 'validate=no'];
      await this.#netsh(['interface', family, 'add', 'dnsservers', ...more], signal);
    }
  }

  /** Empty for an interface that has gone. */
  async #found(name: string, family: Family, signal: AbortSignal | undefined): Promise<readonly string[]> {
    const which = `-InterfaceAlias '${name}' -AddressFamily ${family === 'ipv4' ? 'IPv4' : 'IPv6'} -ErrorAction SilentlyContinue`;
    const script = `(Get-DnsClientServerAddress ${which}).ServerAddresses -join ' '; exit 0`;
    const argv = ['powershell.exe', '-NoProfile', '-NonInteractive', '-Command', script] as const;
    const { code, stderr, stdout } = await this.#run({ argv, timeoutMs: 60_000 }, signal);
    if (code !== 0) throw new LonglineError('unavailable', `"${name}" can't be read: ${stderr.trim().slice(0, 300)}`);
    // Windows lists these for interfaces that have none.
    return stdout
      .trim()
      .split(/\s+/)
      .filter((server) => server !== '' && !server.startsWith('fec0:'));
  }

  async #netsh(words: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const { code, stdout } = await this.#run({ argv: ['netsh', ...words] }, signal);
    if (code !== 0) throw new LonglineError('invalid', `netsh ${words.join(' ')}: ${stdout.trim().slice(0, 300)}`);
  }
}
