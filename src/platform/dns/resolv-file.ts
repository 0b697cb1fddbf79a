// Name servers by an edit of resolv.conf. What was there is durable before the edit and comes back byte for byte, a link as a link,
// when the last interface goes; a crash in between changes nothing about that. If somebody else writes the file meanwhile, theirs
// stays: it is neither edited again, until something else is wanted, nor replaced by what was there before. Fails with
// `unavailable` if the file can't be written.
import { access, constants } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type {
  NameServers,
  NameServersProbe,
  StoredRecord,
  WantedNameServers,
} from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { type Entry, isTorn, putEntry, readEntry, sameEntry } from './entry.ts';
import { type ByInterface, resolvConf, resolvConfNotes } from './resolv-conf.ts';

/** What was there, what is ours, and for whom. */
export interface ResolvFileRecord {
  /** null as long as nothing is edited. */
  readonly before: Entry | null;
  /** Entries of ours that may be found: the last, and the one before it until the last is written. */
  readonly ours: readonly Entry[];
  readonly interfaces: ByInterface;
}

export const NO_RESOLV_FILE: ResolvFileRecord = { before: null, ours: [], interfaces: {} };

/** Edits one resolv.conf. Calls must not overlap. */
export class ResolvFile implements NameServers {
  readonly kind = 'file';
  readonly #path: string;
  readonly #record: StoredRecord<ResolvFileRecord>;

  constructor(record: StoredRecord<ResolvFileRecord>, path = '/etc/resolv.conf') {
    this.#path = path;
    this.#record = record;
  }

  async probe(): Promise<NameServersProbe> {
    const writable = (path: string) =>
      access(path, constants.W_OK).then(
        () => true,
        () => false,
      );
    // Replaced if the folder lets us, else overwritten.
    if ((await writable(dirname(this.#path))) || (await writable(this.#path))) return { kind: 'in_use' };
    return { kind: 'missing', why: `${this.#path} can't be written by this user` };
  }

  async apply(interfaceName: string, wanted: WantedNameServers): Promise<readonly string[]> {
    const record = await this.#record.read();
    const interfaces = { ...record.interfaces, [interfaceName]: wanted };
    const isNew = JSON.stringify(interfaces) !== JSON.stringify(record.interfaces);
    const found = await this.#read();
    const [last] = record.ours;
    if (!isNew && last !== undefined && sameEntry(last, found)) return resolvConfNotes(interfaces);
    if (!isNew && !isKnown(record, found)) {
      return [
        `${this.#path} was changed by somebody else since; it stays as it is, and dns of ${interfaceName} with it`,
      ];
    }
    await this.#edit(record, found, interfaces);
    return resolvConfNotes(interfaces);
  }

  async remove(interfaceName: string): Promise<void> {
    const record = await this.#record.read();
    const { [interfaceName]: had, ...others } = record.interfaces;
    if (record.before === null) return;
    const found = await this.#read();
    if (Object.keys(others).length > 0) {
      if (had === undefined) return;
      if (isKnown(record, found)) await this.#edit(record, found, others);
      else await this.#record.write({ ...record, interfaces: others });
      return;
    }
    if (isKnown(record, found) && !sameEntry(found, record.before)) await this.#put(record.before);
    await this.#record.write(NO_RESOLV_FILE);
  }

  async #edit(record: ResolvFileRecord, found: Entry, interfaces: ByInterface): Promise<void> {
    // What somebody else has written since is what comes back in the end.
    const known = record.before !== null && isKnown(record, found);
    const before = (known ? record.before : undefined) ?? found;
    const text = resolvConf(interfaces, await this.#textOf(before));
    const owner = before.kind === 'file' ? before : { mode: 0o644, uid: 0, gid: 0 };
    const fresh: Entry = { ...owner, kind: 'file', data: Buffer.from(text).toString('base64') };
    const earlier = known ? record.ours.filter((entry) => !sameEntry(entry, fresh)) : [];
    await this.#record.write({ before, ours: [fresh, ...earlier.slice(0, 1)], interfaces });
    if (!sameEntry(found, fresh)) await this.#put(fresh);
  }

  /** Options and search of what was there; behind a link, of what it led to if that can be read. */
  async #textOf(before: Entry): Promise<string> {
    if (before.kind === 'file') return Buffer.from(before.data, 'base64').toString();
    if (before.kind === 'absent') return '';
    const target = await readEntry(resolve(dirname(this.#path), before.target)).catch(() => undefined);
    return target?.kind === 'file' ? Buffer.from(target.data, 'base64').toString() : '';
  }

  #read(): Promise<Entry> {
    return readEntry(this.#path).catch((error: Error) => this.#fail('read', error));
  }

  #put(entry: Entry): Promise<void> {
    return putEntry(this.#path, entry).catch((error: Error) => this.#fail('written', error));
  }

  #fail(what: string, cause: Error): never {
    throw new LonglineError('unavailable', `${this.#path} can't be ${what}: ${cause.message}`, { cause });
  }
}

/** True for what was there before, for what we wrote, and for what a crash leaves of the two. */
function isKnown(record: ResolvFileRecord, found: Entry): boolean {
  const known = record.before === null ? record.ours : [record.before, ...record.ours];
  return known.some(
    (entry) => sameEntry(entry, found) || known.some((other) => other !== entry && isTorn(found, entry, other)),
  );
}
