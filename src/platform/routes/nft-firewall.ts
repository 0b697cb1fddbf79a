// Rules of ours in nftables: one table "inet longline_IF" for each interface, written whole in one transaction and only if the
// kernel's differs. No other table is read for anything but whether somebody else passes packets on. Fails with `unsupported`
// if there is no `nft` and rules are wanted.
import { readFile } from 'node:fs/promises';
import type { Firewall, FirewallRules } from '../../capabilities/network/ports.ts';
import { canonicalJson } from '../../core/canonical-json.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';

type NftObject = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

const FAMILY = 'inet';
const TABLE_PREFIX = 'longline_';
/** Tables of the older iptables that are in use, by name. They are not to be seen through nft. */
const LEGACY_TABLES = ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names'];

/** The kernel's nftables. */
export class NftFirewall implements Firewall {
  readonly #run: RunCommand;
  readonly #legacyTables: readonly string[];

  constructor(run: RunCommand, legacyTables: readonly string[] = LEGACY_TABLES) {
    this.#run = run;
    this.#legacyTables = legacyTables;
  }

  async apply(interfaceName: string, rules: FirewallRules | undefined, signal?: AbortSignal): Promise<boolean> {
    const name = `${TABLE_PREFIX}${interfaceName}`;
    const found = await this.#list(name, rules === undefined, signal);
    if (rules === undefined) {
      if (found === undefined) return false;
      await this.#write([{ delete: table(name) }], signal);
      return true;
    }
    const wanted = tableObjects(name, interfaceName, rules);
    if (found !== undefined && sameObjects(wanted, found)) return false;
    // Made and removed first, so that it is new whether or not it is there.
    await this.#write([{ add: table(name) }, { delete: table(name) }, ...wanted.map((add) => ({ add }))], signal);
    return true;
  }

  async othersForward(signal?: AbortSignal): Promise<boolean> {
    for (const path of this.#legacyTables) {
      const names = await readFile(path, 'utf8').catch(() => '');
      if (/^(nat|filter)$/m.test(names)) return true;
    }
    const listed = await this.#run({ argv: ['nft', '-j', 'list', 'chains'] }, signal).catch((error: unknown) => {
      if (error instanceof LonglineError && error.reason === 'unsupported') return undefined;
      throw error;
    });
    // Without nft it can't be told: somebody may rely on it.
    if (listed === undefined) return true;
    const { code, stderr, stdout } = listed;
    if (code !== 0) throw refused('its chains can not be listed', stderr);
    return parse(stdout).some(({ chain }) => {
      const ours = chain === undefined || String(chain['table']).startsWith(TABLE_PREFIX);
      return !ours && (chain['type'] === 'nat' || chain['hook'] === 'forward');
    });
  }

  /** What the table has; undefined if there is none. */
  async #list(name: string, unlessAbsent: boolean, signal: AbortSignal | undefined) {
    const argv = ['nft', '-j', 'list', 'table', FAMILY, name] as const;
    const { code, stderr, stdout } = await this.#run({ argv }, signal).catch((error: unknown) => {
      // Without nft nobody can have made the table.
      if (!unlessAbsent || !(error instanceof LonglineError) || error.reason !== 'unsupported') throw error;
      return { code: 1, stdout: '', stderr: 'No such file or directory' };
    });
    if (code === 0) return parse(stdout);
    if (/No such file or directory/.test(stderr)) return undefined;
    throw refused(`table ${FAMILY} ${name} can't be read`, stderr);
  }

  async #write(commands: readonly object[], signal: AbortSignal | undefined): Promise<void> {
    const stdin = JSON.stringify({ nftables: commands });
    const { code, stderr } = await this.#run({ argv: ['nft', '-j', '-f', '-'], stdin }, signal);
    if (code !== 0) throw refused('a table of ours was refused', stderr);
  }
}

function refused(what: string, stderr: string): LonglineError {
  const said = stderr.trim().split('\n').slice(0, 3).join(' ').slice(0, 300);
  const denied = /not permitted|permission/i.test(said) ? ': CAP_NET_ADMIN is needed' : '';
  return new LonglineError(denied === '' ? 'invalid' : 'unavailable', `nftables: ${what}: ${said}${denied}`);
}

function table(name: string): NftObject {
  return { table: { family: FAMILY, name } };
}

function tableObjects(name: string, interfaceName: string, rules: FirewallRules): readonly NftObject[] {
  const chain = (chainName: string, type: string, hook: string, prio: number): NftObject => {
    return { chain: { family: FAMILY, table: name, name: chainName, type, hook, prio, policy: 'accept' } };
  };
  const rule = (chainName: string, ...expr: readonly object[]): NftObject => {
    return { rule: { family: FAMILY, table: name, chain: chainName, expr } };
  };
  const objects = [table(name)];
  if (rules.masquerade.length > 0) {
    objects.push(chain('leave', 'nat', 'postrouting', 100));
    for (const prefix of rules.masquerade) {
      const isOurs = [differs(meta('iifname'), interfaceName), equals(meta('oifname'), interfaceName)];
      objects.push(rule('leave', ...isOurs, fromPrefix(prefix), { masquerade: null }));
    }
  }
  const { replyMark } = rules;
  if (replyMark !== undefined) {
    const mark = { ct: { key: 'mark' } };
    objects.push(chain('replies', 'filter', 'prerouting', -150), chain('marked', 'filter', 'postrouting', -150));
    const restore = { mangle: { key: meta('mark'), value: replyMark } };
    objects.push(rule('replies', equals(mark, replyMark), restore));
    objects.push(rule('marked', equals(meta('mark'), replyMark), { mangle: { key: mark, value: replyMark } }));
  }
  return objects;
}

function meta(key: string) {
  return { meta: { key } };
}

function equals(left: object, right: unknown) {
  return { match: { op: '==', left, right } };
}

function differs(left: object, right: unknown) {
  return { match: { op: '!=', left, right } };
}

function fromPrefix(prefix: string) {
  const [addr, length] = prefix.split('/') as [string, string];
  const protocol = addr.includes(':') ? 'ip6' : 'ip';
  if (length === '0') return equals(meta('nfproto'), protocol === 'ip' ? 'ipv4' : 'ipv6');
  const whole = length === (protocol === 'ip' ? '32' : '128');
  const right = whole ? addr : { prefix: { addr, len: Number(length) } };
  return equals({ payload: { protocol, field: 'saddr' } }, right);
}

function parse(stdout: string): readonly NftObject[] {
  try {
    return (JSON.parse(stdout) as { readonly nftables: readonly NftObject[] }).nftables;
  } catch (error) {
    throw new LonglineError('internal', '`nft` gave an answer that is no JSON', { cause: error });
  }
}

/** Equal but for what the kernel adds, and the order in which it lists chains. */
function sameObjects(wanted: readonly NftObject[], found: readonly NftObject[]): boolean {
  const texts = (objects: readonly NftObject[]) => {
    const chains = new Map<string, string[]>();
    for (const object of objects) {
      const [kind, fields] = Object.entries(object)[0]!;
      if (kind === 'metainfo') continue;
      const { handle: _handle, ...own } = fields;
      const chain = String(own['chain'] ?? own['name']);
      chains.set(chain, [...(chains.get(chain) ?? []), `${kind} ${canonicalJson(own)}`]);
    }
    return canonicalJson([...chains].sort(([left], [right]) => (left < right ? -1 : 1)));
  };
  return texts(wanted) === texts(found);
}
