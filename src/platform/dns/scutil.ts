// Name servers on macOS, as an entry of ours in the system's dynamic store, which a boot forgets. Proven to the exact dialogue with
// scutil: never run on a Mac. Needs root. Fails with `invalid` if scutil complains; it ends with 0 whatever it was told.
import type { NameServers, NameServersProbe, WantedNameServers } from '../../capabilities/network/ports.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { isSplit, searched } from './resolv-conf.ts';

/** The dynamic store of this host. */
export class ScutilNameServers implements NameServers {
  readonly kind = 'scutil';
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  async probe(signal?: AbortSignal): Promise<NameServersProbe> {
    try {
      await this.#say(['list State:/Network/Global/DNS'], signal);
      return { kind: 'in_use' };
    } catch (error) {
      return { kind: 'missing', why: toLonglineError(error).message };
    }
  }

  async apply(name: string, wanted: WantedNameServers, signal?: AbortSignal): Promise<readonly string[]> {
    // An empty domain is matched by all names.
    const matched = isSplit(wanted.domains) ? wanted.domains.map((domain) => domain.replace('~', '')) : [''];
    const lists = {
      ServerAddresses: wanted.servers,
      SearchDomains: searched(wanted.domains),
      SupplementalMatchDomains: matched,
    };
    const given = Object.entries(lists).filter(([, values]) => values.length > 0);
    const shown = await this.#say([`show ${storeKey(name)}`], signal);
    if (
      given.every(([key, values]) => listOf(shown, key).join('\n') === values.join('\n')) &&
      countLists(shown) === given.length
    ) {
      return [];
    }
    const words = (values: readonly string[]) => values.map((value) => (value === '' ? '""' : value)).join(' ');
    const lines = given.map(([key, values]) => `d.add ${key} * ${words(values)}`);
    await this.#say(['d.init', ...lines, `set ${storeKey(name)}`], signal);
    return [];
  }

  async remove(name: string, signal?: AbortSignal): Promise<void> {
    const shown = await this.#say([`show ${storeKey(name)}`], signal);
    if (!/No such key/.test(shown)) await this.#say([`remove ${storeKey(name)}`], signal);
  }

  async #say(lines: readonly string[], signal: AbortSignal | undefined): Promise<string> {
    const stdin = [...lines, 'quit', ''].join('\n');
    const { code, stderr, stdout } = await this.#run({ argv: ['scutil'], stdin }, signal);
    const complaint = /^.*(?:Permission denied|not permitted|Failed).*$/im.exec(`${stdout}\n${stderr}`)?.[0];
    if (code === 0 && complaint === undefined) return stdout;
    throw new LonglineError('invalid', `scutil: ${(complaint ?? stderr).trim().slice(0, 300)}`);
  }
}

function storeKey(name: string): string {
  return `State:/Network/Service/longline-${name}/DNS`;
}

/** Values of a list as scutil shows it: "ServerAddresses : <array> {", a line "0 : value" for each, "}". */
function listOf(shown: string, key: string): readonly string[] {
  const block = new RegExp(`^\\s*${key} : <array> \\{\\n([^}]*)\\}`, 'm').exec(shown)?.[1] ?? '';
  return [...block.matchAll(/^\s*\d+ : ?(.*)$/gm)].map(([, value]) => value!);
}

function countLists(shown: string): number {
  return shown.match(/ : <array> \{/g)?.length ?? 0;
}
