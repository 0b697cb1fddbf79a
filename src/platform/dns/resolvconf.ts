// Name servers of one interface through resolvconf, which makes resolv.conf of what all interfaces have: openresolv, which can
// keep servers for some domains only where a local resolver serves it, or Debian's own, which can't. It compares by itself, and
// writes only what changes. Fails with `invalid` if it refuses.
import type { NameServers, NameServersProbe, WantedNameServers } from '../../capabilities/network/ports.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { isSplit, searched } from './resolv-conf.ts';

type Flavour = 'openresolv' | 'debian';

/** The resolvconf of this host. */
export class ResolvconfNameServers implements NameServers {
  readonly kind = 'resolvconf';
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  async probe(signal?: AbortSignal): Promise<NameServersProbe> {
    try {
      await this.#flavour(signal);
      return { kind: 'in_use' };
    } catch (error) {
      return { kind: 'missing', why: toLonglineError(error).message };
    }
  }

  async apply(name: string, wanted: WantedNameServers, signal?: AbortSignal): Promise<readonly string[]> {
    const flavour = await this.#flavour(signal);
    const split = isSplit(wanted.domains);
    const search = split ? wanted.domains.map((domain) => domain.replace('~', '')) : searched(wanted.domains);
    const lines = wanted.servers.map((server) => `nameserver ${server}\n`);
    if (search.length > 0) lines.push(`search ${search.join(' ')}\n`);
    // First of all, and for all names; or only for the domains.
    const options = flavour === 'debian' ? [] : ['-m', '0', split ? '-p' : '-x'];
    await this.#resolvconf(['-a', recordName(name), ...options], lines.join(''), signal);
    if (!split) return [];
    if (flavour === 'openresolv')
      return [`openresolv tells the name servers of ${name} only to a local resolver that it serves`];
    return [`resolvconf of this host knows no domains: the name servers of ${name} are asked for all names`];
  }

  async remove(name: string, signal?: AbortSignal): Promise<void> {
    const flavour = await this.#flavour(signal);
    await this.#resolvconf(['-d', recordName(name), ...(flavour === 'openresolv' ? ['-f'] : [])], undefined, signal);
  }

  async #flavour(signal: AbortSignal | undefined): Promise<Flavour> {
    const { stderr, stdout } = await this.#run({ argv: ['resolvconf', '--version'] }, signal);
    if (/openresolv/.test(stdout)) return 'openresolv';
    if (/systemd/.test(stdout)) throw new LonglineError('unsupported', "resolvconf is systemd-resolved's here");
    if (/resolvconf/.test(stdout + stderr)) return 'debian';
    throw new LonglineError('unsupported', 'resolvconf is of a kind that is not known');
  }

  async #resolvconf(
    words: readonly string[],
    stdin: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const argv = ['resolvconf', ...words] as const;
    const { code, stderr } = await this.#run(stdin === undefined ? { argv } : { argv, stdin }, signal);
    if (code === 0) return;
    throw new LonglineError('invalid', `resolvconf ${words.join(' ')}: ${stderr.trim().slice(0, 300)}`);
  }
}

/** Debian's puts what begins with "tun" before other interfaces. */
function recordName(name: string): string {
  return `tun.${name}`;
}
