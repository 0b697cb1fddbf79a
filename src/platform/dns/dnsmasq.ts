// Name servers by domain for a dnsmasq that runs on the host. It reads a file of `server=` lines again at each SIGHUP, if it was
// started with --servers-file; what stands in its other files it reads only once. The file is ours alone, and holds a part for each
// interface. Fails with `unavailable` if dnsmasq can't be told.
import { readFile } from 'node:fs/promises';
import type { NameServers, NameServersProbe, WantedNameServers } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { putEntry, readEntry } from './entry.ts';
import { searched } from './resolv-conf.ts';

/** Where a dnsmasq is found. */
export interface DnsmasqPlace {
  /** What it was given as --servers-file. */
  readonly serversFile: string;
  /** What it was given as --pid-file. */
  readonly pidFile: string;
}

const HEAD = '# Written by Longline, which owns this file.\n';
const PART = /^# interface (\S+)$/;

/** One running dnsmasq. Calls must not overlap. */
export class DnsmasqNameServers implements NameServers {
  readonly kind = 'dnsmasq';
  readonly #place: DnsmasqPlace;

  constructor(place: DnsmasqPlace) {
    this.#place = place;
  }

  async probe(): Promise<NameServersProbe> {
    try {
      await this.#pid();
      return { kind: 'usable' };
    } catch (error) {
      return { kind: 'missing', why: (error as Error).message };
    }
  }

  async apply(name: string, wanted: WantedNameServers): Promise<readonly string[]> {
    const domains = wanted.domains.filter((domain) => domain !== '~.').map((domain) => domain.replace('~', ''));
    const forAll = wanted.domains.length === 0 || wanted.domains.includes('~.');
    const scopes = [...domains.map((domain) => `/${domain}/`), ...(forAll ? [''] : [])];
    const lines = scopes.flatMap((scope) => wanted.servers.map((server) => `server=${scope}${server}`));
    await this.#update(name, lines);
    const search = searched(wanted.domains);
    if (search.length === 0) return [];
    return [
      `dnsmasq searches no domains: ${search.join(', ')} ${search.length === 1 ? 'is' : 'are'} only asked for there`,
    ];
  }

  async remove(name: string): Promise<void> {
    await this.#update(name, []);
  }

  async #update(name: string, lines: readonly string[]): Promise<void> {
    const { serversFile } = this.#place;
    const found = await readEntry(serversFile).catch((error: Error) => this.#fail(serversFile, error));
    const before = found.kind === 'file' ? Buffer.from(found.data, 'base64').toString() : '';
    if (before !== '' && !before.startsWith(HEAD)) {
      throw new LonglineError('already_exists', `${serversFile} is somebody else's: its first line isn't ours`);
    }
    const parts = partsOf(before);
    if (lines.length > 0) parts.set(name, lines);
    else parts.delete(name);
    const text = HEAD + [...parts].map(([one, own]) => `# interface ${one}\n${own.join('\n')}\n`).join('');
    if (text !== before && (before !== '' || parts.size > 0)) {
      const owner =
        found.kind === 'file' ? found : { mode: 0o644, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
      const fresh = { ...owner, kind: 'file', data: Buffer.from(text).toString('base64') } as const;
      await putEntry(serversFile, fresh).catch((error: Error) => this.#fail(serversFile, error));
    }
    // Also if nothing was written: whoever wrote it may have been killed before this.
    if (lines.length > 0 || text !== before) await this.#reload(lines.length === 0);
  }

  async #reload(mayBeGone: boolean): Promise<void> {
    try {
      process.kill(await this.#pid(), 'SIGHUP');
    } catch (error) {
      // Without one that runs there is nobody left who could ask there.
      if (!mayBeGone) throw error instanceof LonglineError ? error : this.#fail('dnsmasq', error as Error);
    }
  }

  async #pid(): Promise<number> {
    const { pidFile } = this.#place;
    const pid = Number((await readFile(pidFile, 'utf8').catch((error: Error) => this.#fail(pidFile, error))).trim());
    // The number may be another program's by now.
    const program = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
    if (program.trim() !== 'dnsmasq') throw new LonglineError('unavailable', `${pidFile} names no dnsmasq that runs`);
    return pid;
  }

  #fail(what: string, cause: Error): never {
    throw new LonglineError('unavailable', `${what}: ${cause.message}`, { cause });
  }
}

function partsOf(text: string): Map<string, readonly string[]> {
  const parts = new Map<string, readonly string[]>();
  let name: string | undefined;
  for (const line of text.split('\n').slice(1)) {
    const begins = PART.exec(line)?.[1];
    if (begins !== undefined) {
      name = begins;
      parts.set(name, []);
    } else if (name !== undefined && line !== '') parts.set(name, [...parts.get(name)!, line]);
  }
  return parts;
}
