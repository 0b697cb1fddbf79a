// The keys in force: the operator's trust file and what came with enrolment. Reloaded on demand; a bad or loose file is
// refused and what was in force stays. The operator's word wins where both name a key.
import { LonglineError } from '../../core/errors.ts';
import { readGuardedFile } from './guarded-file.ts';
import { parseTrustFile, type TrustEntry, type TrustFile } from './trust-file.ts';

/** Where trust comes from. */
export interface TrustSources {
  /** The operator's trust file. Only one that isn't required may be missing. */
  readonly trustFile: { readonly path: string; readonly required: boolean };
  /** The file that enrolment writes; undefined if that trust is switched off. It may not exist yet. */
  readonly enrollmentFile: string | undefined;
  /** Scopes that jobs signed by an enrolled controller may require. */
  readonly enrollmentScopes: readonly string[];
}

/** Looks keys up. Immutable between reloads. */
export class TrustStore {
  readonly #sources: TrustSources;
  #entries: ReadonlyMap<string, TrustEntry> = new Map();
  #files: readonly string[] = [];

  constructor(sources: TrustSources) {
    this.#sources = sources;
  }

  /** Files in force. */
  get files(): readonly string[] {
    return this.#files;
  }

  /** Reads all sources anew. Throws and changes nothing if one of them is bad. */
  async load(): Promise<void> {
    const putInForce = await this.read();
    putInForce();
  }

  /** As `load`, but changes nothing until the function that it gives is called. */
  async read(): Promise<() => void> {
    const entries = new Map<string, TrustEntry>();
    const files: string[] = [];
    const { trustFile, enrollmentFile, enrollmentScopes } = this.#sources;
    if (enrollmentFile !== undefined) {
      const enrolled = await readTrustFile(enrollmentFile).catch(absent);
      for (const entry of enrolled ?? []) entries.set(entry.keyId, { ...entry, scopes: enrollmentScopes });
      if (enrolled !== undefined) files.push(enrollmentFile);
    }
    const own = await readTrustFile(trustFile.path).catch((error: unknown) => {
      if (trustFile.required) throw error;
      return absent(error);
    });
    for (const entry of own ?? []) entries.set(entry.keyId, entry);
    if (own !== undefined) files.push(trustFile.path);
    return () => {
      this.#entries = entries;
      this.#files = files;
    };
  }

  /** The entry of a key id; undefined if it isn't trusted. */
  find(keyId: string): TrustEntry | undefined {
    return this.#entries.get(keyId);
  }
}

/** Reads and checks one trust file, with the key files it names. Errors name the file. */
export async function readTrustFile(path: string): Promise<readonly TrustEntry[]> {
  const options = { what: 'trust file', secret: false };
  const text = await readGuardedFile(path, options);
  const readSecret = (secretFile: string) => readGuardedFile(secretFile, { what: 'key file', secret: true });
  let parsed: TrustFile;
  try {
    parsed = await parseTrustFile(text, path, readSecret);
    // Only now is it known how private the file must be.
    if (parsed.holdsSecret) await readGuardedFile(path, { ...options, secret: true });
  } catch (error) {
    if (!(error instanceof LonglineError) || error.reason !== 'invalid') throw error;
    throw new LonglineError('invalid', `trust file ${path}: ${error.message}`, { violations: error.violations });
  }
  return parsed.entries;
}

function absent(error: unknown): undefined {
  if (error instanceof LonglineError && error.reason === 'not_found') return undefined;
  throw error;
}
