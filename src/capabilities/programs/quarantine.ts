// Artifacts that misbehaved on this host, and are not loaded again. An entry ends when somebody releases it, or when the program that
// it was made for is asked for with another `renewal`; another artifact is not held up by it. Where the revision before came of the
// same artifact, only the parameters can be to blame: then the artifact is held back with just these. On disk before anything else is done.
import type { StateStore } from '../../core/capability.ts';
import { fromJson, toJson } from '../../core/exact-json.ts';

/** One artifact that is held back. */
export interface Quarantined {
  /** "sha256:…". */
  readonly artifact: string;
  /** Digest of the parameters that it is held back with; undefined for any. */
  readonly settings: string | undefined;
  /** Program that it misbehaved as, and the `renewal` of its spec. */
  readonly program: string;
  readonly renewal: string;
  /** For people. */
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly atMs: number;
}

/** What is to be loaded, as far as it matters here. */
export interface QuarantineQuestion {
  readonly artifact: string;
  readonly settings: string;
  readonly program: string;
  readonly renewal: string;
}

const PREFIX = 'quarantine/';
const MOST = 1000;

/** One per capability. */
export class Quarantine {
  readonly #state: StateStore;
  readonly #entries = new Map<string, Quarantined>();

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Reads what is held back; what can't be read is given to `damaged`, and still held back if its artifact can be told. */
  async load(damaged: (key: string, error: unknown) => void): Promise<void> {
    for (const key of await this.#state.list(PREFIX)) {
      const bytes = await this.#state.get(key);
      try {
        if (bytes !== undefined) this.#entries.set(key, fromJson(Buffer.from(bytes).toString()) as Quarantined);
      } catch (error) {
        damaged(key.slice(PREFIX.length), error);
        const [hex = '', settings] = key.slice(PREFIX.length).split('/');
        const reason = 'the record of why is damaged';
        const whose = { program: '', renewal: '' };
        this.#entries.set(key, {
          ...{ artifact: `sha256:${hex}`, reason, atMs: 0, ...whose },
          settings: settings === 'all' ? undefined : settings,
        });
      }
    }
  }

  /** All of it, in the order of artifacts. */
  all(): readonly Quarantined[] {
    return [...this.#entries].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, entry]) => entry);
  }

  /** What holds this back; undefined if nothing does. */
  blocks(question: QuarantineQuestion): Quarantined | undefined {
    return [...this.#entries.values()].find((entry) => isAbout(entry, question) && !isRenewed(entry, question));
  }

  /** Durable when it resolves. Of too many the oldest goes. */
  async add(entry: Quarantined): Promise<void> {
    const key = keyOf(entry);
    await this.#state.put(key, Buffer.from(toJson(entry)));
    this.#entries.set(key, entry);
    if (this.#entries.size <= MOST) return;
    const oldest = [...this.#entries].reduce((one, other) => (other[1].atMs < one[1].atMs ? other : one));
    await this.#delete(oldest[0]);
  }

  /** Releases one artifact, with whatever parameters, or all. Gives what was released, in order. Durable when it resolves. */
  async release(artifact: string | undefined): Promise<readonly string[]> {
    const going = [...this.#entries].filter(([, entry]) => artifact === undefined || entry.artifact === artifact);
    for (const [key] of going) await this.#delete(key);
    return [...new Set(going.map(([, entry]) => entry.artifact))].sort();
  }

  /** Releases what a program was held back for before its spec was renewed. Durable when it resolves. */
  async renew(question: QuarantineQuestion): Promise<void> {
    for (const [key, entry] of [...this.#entries]) {
      if (isAbout(entry, question) && isRenewed(entry, question)) await this.#delete(key);
    }
  }

  async #delete(key: string): Promise<void> {
    await this.#state.delete(key);
    this.#entries.delete(key);
  }
}

function isAbout(entry: Quarantined, { artifact, settings }: QuarantineQuestion): boolean {
  return entry.artifact === artifact && (entry.settings === undefined || entry.settings === settings);
}

function isRenewed(entry: Quarantined, { program, renewal }: QuarantineQuestion): boolean {
  return entry.program === program && entry.renewal !== renewal;
}

function keyOf({ artifact, settings }: Quarantined): string {
  return `${PREFIX}${artifact.replace(/^sha256:/, '')}/${settings ?? 'all'}`;
}
