// The agent's identity on disk. Each set of credentials has a folder of its own that is never changed; one small file,
// replaced atomically, says which set is current and which is a candidate. A crash at any point leaves a whole set.
import { X509Certificate } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LonglineError } from '../../core/errors.ts';

/** A client certificate with all it needs, PEM. */
export interface Credentials {
  readonly certificateChain: string;
  readonly privateKey: string;
  readonly trustedCertificates: string;
}

/** Credentials with their place in the store. */
export interface StoredCredentials extends Credentials {
  readonly set: string;
  readonly expiresAtMs: number;
  /** When it came. Not the certificate's own beginning, which lies before that to make up for clocks that differ. */
  readonly obtainedAtMs: number;
}

/** What the index file holds. */
interface CredentialIndex {
  readonly current?: string;
  readonly candidate?: string;
  readonly controllerUrl?: string;
  readonly controllerId?: string;
  readonly agentId?: string;
  /** SHA-256 of the registration token used last, so that a used one isn't tried again. */
  readonly tokenSha256?: string;
  /** Labels bound to that token. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** Keeps the current credentials, and new ones as candidate until a connection with them worked. */
export class CredentialStore {
  readonly #folder: string;
  #index: CredentialIndex = {};

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads the index and removes sets that it doesn't name. Refuses key files that others can read. */
  async open(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    this.#index = await this.#readIndex();
    for (const name of await readdir(this.#folder)) {
      const known = name === this.#index.current || name === this.#index.candidate || name === 'index.json';
      if (!known) await rm(join(this.#folder, name), { recursive: true, force: true });
    }
  }

  get facts(): Readonly<Omit<CredentialIndex, 'current' | 'candidate'>> {
    return this.#index;
  }

  async current(): Promise<StoredCredentials | undefined> {
    return this.#index.current === undefined ? undefined : this.#read(this.#index.current);
  }

  async candidate(): Promise<StoredCredentials | undefined> {
    return this.#index.candidate === undefined ? undefined : this.#read(this.#index.candidate);
  }

  /** Makes these credentials current at once: the result of an enrolment. */
  async replace(
    credentials: Credentials,
    facts: Required<Omit<CredentialIndex, 'current' | 'candidate'>>,
  ): Promise<void> {
    const set = await this.#writeSet(credentials);
    await this.#writeIndex({ ...facts, current: set });
  }

  /** Keeps these credentials as candidate, replacing an older candidate: the result of a renewal. */
  async propose(credentials: Credentials): Promise<void> {
    const set = await this.#writeSet(credentials);
    await this.#writeIndex({ ...this.#index, candidate: set });
  }

  /** A connection with this set worked: a candidate becomes current and the old set is removed. */
  async promote(set: string): Promise<void> {
    if (this.#index.candidate !== set) return;
    const { candidate: _, ...rest } = this.#index;
    await this.#writeIndex({ ...rest, current: set });
  }

  async #read(set: string): Promise<StoredCredentials> {
    const folder = join(this.#folder, set);
    const keyPath = join(folder, 'key.pem');
    const { mode, mtimeMs } = await stat(keyPath);
    if ((mode & 0o077) !== 0) {
      throw new LonglineError(
        'policy',
        `${keyPath}: mode ${(mode & 0o777).toString(8)} lets others read the private key; run: chmod 600 ${keyPath}`,
      );
    }
    const [certificateChain, privateKey, trustedCertificates] = await Promise.all([
      readFile(join(folder, 'chain.pem'), 'utf8'),
      readFile(keyPath, 'utf8'),
      readFile(join(folder, 'ca.pem'), 'utf8'),
    ]);
    const leaf = new X509Certificate(certificateChain);
    return {
      set,
      certificateChain,
      privateKey,
      trustedCertificates,
      obtainedAtMs: mtimeMs,
      expiresAtMs: leaf.validToDate.getTime(),
    };
  }

  async #writeSet(credentials: Credentials): Promise<string> {
    const set = `set-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
    const folder = join(this.#folder, set);
    await mkdir(folder, { mode: 0o700 });
    await writeDurably(join(folder, 'key.pem'), credentials.privateKey, 0o600);
    await writeDurably(join(folder, 'chain.pem'), credentials.certificateChain, 0o644);
    await writeDurably(join(folder, 'ca.pem'), credentials.trustedCertificates, 0o644);
    await syncFolder(folder);
    return set;
  }

  async #writeIndex(index: CredentialIndex): Promise<void> {
    const dropped = [this.#index.current, this.#index.candidate].filter(
      (set) => set !== undefined && set !== index.current && set !== index.candidate,
    );
    const path = join(this.#folder, 'index.json');
    await writeDurably(`${path}.new`, JSON.stringify(index, undefined, 2), 0o600);
    await rename(`${path}.new`, path);
    await syncFolder(this.#folder);
    this.#index = index;
    for (const set of dropped) await rm(join(this.#folder, set!), { recursive: true, force: true });
  }

  async #readIndex(): Promise<CredentialIndex> {
    const path = join(this.#folder, 'index.json');
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (text === undefined) return {};
    try {
      return JSON.parse(text) as CredentialIndex;
    } catch (error) {
      throw new LonglineError(
        'invalid',
        `${path}: is not JSON; remove ${this.#folder} and enrol again with a new token`,
        { cause: error },
      );
    }
  }
}

async function writeDurably(path: string, content: string, mode: number): Promise<void> {
  await using file = await open(path, 'w', mode);
  await file.writeFile(content);
  await file.sync();
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}
