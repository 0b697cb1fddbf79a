// Name servers of one interface through systemd-resolved, which keeps them with the interface and forgets them with it.
// Fails with `invalid` if it refuses, as it does for an interface that systemd-networkd manages.
import { readFile } from 'node:fs/promises';
import type { NameServers, NameServersProbe, WantedNameServers } from '../../capabilities/network/ports.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';
import { asks, isSplit } from './resolv-conf.ts';

/** Where it listens on every host. */
const STUBS = ['127.0.0.53', '127.0.0.54'];
const TIMEOUT_MS = 10_000;

/** The systemd-resolved of this host. */
export class ResolvedNameServers implements NameServers {
  readonly kind = 'resolved';
  readonly #run: RunCommand;
  readonly #resolvConf: string;

  constructor(run: RunCommand, resolvConf = '/etc/resolv.conf') {
    this.#run = run;
    this.#resolvConf = resolvConf;
  }

  async probe(signal?: AbortSignal): Promise<NameServersProbe> {
    try {
      await this.#resolvectl(['dns'], signal);
    } catch (error) {
      return { kind: 'missing', why: (error as Error).message };
    }
    const text = await readFile(this.#resolvConf, 'utf8').catch(() => '');
    return { kind: asks(text, STUBS) ? 'in_use' : 'usable' };
  }

  async apply(name: string, wanted: WantedNameServers, signal?: AbortSignal): Promise<readonly string[]> {
    const domains = wanted.domains.length === 0 ? ['~.'] : wanted.domains;
    await this.#set(name, 'dns', wanted.servers, signal);
    await this.#set(name, 'domain', domains, signal);
    await this.#set(name, 'default-route', [isSplit(domains) ? 'no' : 'yes'], signal);
    return [];
  }

  async remove(name: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.#resolvectl(['revert', name], signal);
    } catch (error) {
      // It forgets an interface that has gone by itself.
      if (!/No such device|Failed to resolve interface/.test((error as Error).message)) throw error;
    }
  }

  async #set(name: string, what: string, values: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const shown = await this.#resolvectl([what, name], signal);
    // "Link 5 (wg0): 10.0.0.1 fd00::1", folded if it is long.
    const found = shown
      .slice(shown.indexOf('):') + 2)
      .split(/\s+/)
      .filter(Boolean);
    if (found.join(' ') !== values.join(' ')) await this.#resolvectl([what, name, ...values], signal);
  }

  async #resolvectl(words: readonly string[], signal: AbortSignal | undefined): Promise<string> {
    const { code, stderr, stdout } = await this.#run({ argv: ['resolvectl', ...words], timeoutMs: TIMEOUT_MS }, signal);
    if (code === 0) return stdout;
    throw new LonglineError('invalid', `resolvectl ${words.slice(0, 2).join(' ')}: ${stderr.trim().slice(0, 300)}`);
  }
}
