// Where things are pinned: <bpffs>/longline/<instance>/<program>/, and there revisions/<n>/{programs,maps}/<name> and
// links/<slot>. Nothing outside the instance's folder is ever looked at. A revision is pinned as revisions/new-<n> and renamed once
// it is whole, so that a kill leaves either all of it or what tidy() knows as half made. Knows nothing of what is pinned. Fails with
// `invalid` for names that can't be in a path, else with kernelError().
import { existsSync, readdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { RevisionPlace } from '../../capabilities/programs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { type BpfFd, openPin } from './bpf-syscall.ts';
import { makeFolder } from './folders.ts';

/** Names that are part of a path. No dots: the kernel keeps those for itself and says EPERM. */
const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const REVISION = /^[1-9]\d{0,9}$/;
const DRAFT = /^new-[1-9]\d{0,9}$/;
/** Of functions and maps; libbpf's names for maps of variables have dots. */
const OBJECT_NAME = /^[A-Za-z0-9_.$]{1,200}$/;

/** Pins of one instance. */
export class Pins {
  /** Of the instance. */
  readonly folder: string;

  constructor(mountPoint: string, instanceId: string) {
    this.folder = join(mountPoint, 'longline', checkedName('the instance id', instanceId));
  }

  /** Programs of which anything is there, in order. */
  programs(): readonly string[] {
    return namesIn(this.folder).filter((name) => NAME.test(name));
  }

  /** Revisions that are whole, lowest first. */
  revisions(program: string): readonly number[] {
    const names = namesIn(join(this.#programFolder(program), 'revisions'));
    return names.flatMap((name) => (REVISION.test(name) ? [Number(name)] : [])).sort((a, b) => a - b);
  }

  /** Names of functions of a revision that are pinned, in order. */
  functions(place: RevisionPlace): readonly string[] {
    return namesIn(join(this.#revisionFolder(place), 'programs')).map(objectName);
  }

  /** Names of maps of a revision that are pinned, in order. */
  maps(place: RevisionPlace): readonly string[] {
    return namesIn(join(this.#revisionFolder(place), 'maps')).map(objectName);
  }

  /** Slots of a program whose links are pinned, in order. */
  slots(program: string): readonly string[] {
    return namesIn(join(this.#programFolder(program), 'links')).filter((name) => NAME.test(name));
  }

  /** True if the revision is there, and whole. */
  has(place: RevisionPlace): boolean {
    return existsSync(this.#revisionFolder(place));
  }

  /** A function of a revision. Throws `not_found`. The caller disposes it. */
  openFunction(place: RevisionPlace, name: string): BpfFd {
    const found = openPin(join(this.#revisionFolder(place), 'programs', fileName(name)));
    if (found !== undefined) return found;
    throw new LonglineError('not_found', `function ${name} of ${placeText(place)} isn't loaded`);
  }

  /** A map of a revision. Undefined if it has none of that name. The caller disposes it. */
  openMap(place: RevisionPlace, name: string): BpfFd | undefined {
    return openPin(join(this.#revisionFolder(place), 'maps', fileName(name)));
  }

  /** Where the link of a slot is pinned, whether it is or not. Its folder is made. */
  linkPath(program: string, slot: string): string {
    const path = join(this.#programFolder(program), 'links', checkedName('the slot', slot));
    makePinFolder(dirname(path));
    return path;
  }

  /** The link of a slot. Undefined if there is none. The caller disposes it. */
  openLink(program: string, slot: string): BpfFd | undefined {
    return openPin(join(this.#programFolder(program), 'links', checkedName('the slot', slot)));
  }

  /** Begins to pin a revision. Only commit() makes it one; disposing it before takes all of it away. */
  draft(place: RevisionPlace): RevisionDraft {
    const whole = this.#revisionFolder(place);
    const folder = join(this.#programFolder(place.program), 'revisions', `new-${place.revision}`);
    rmSync(folder, { recursive: true, force: true });
    for (const part of ['programs', 'maps']) makePinFolder(join(folder, part));
    return new RevisionDraft(folder, whole);
  }

  /** Takes the pins of a revision away; what else holds its functions keeps them. Nothing happens if it isn't there. */
  remove(place: RevisionPlace): void {
    rmSync(this.#revisionFolder(place), { recursive: true, force: true });
    this.tidy(place.program);
  }

  /** Takes away what a kill left of a revision that was being pinned, and folders that are empty. True if there was any. */
  tidy(program: string): boolean {
    const folder = this.#programFolder(program);
    const drafts = namesIn(join(folder, 'revisions')).filter((name) => DRAFT.test(name));
    for (const name of drafts) rmSync(join(folder, 'revisions', name), { recursive: true, force: true });
    for (const empty of [join(folder, 'revisions'), join(folder, 'links'), folder, this.folder]) removeEmpty(empty);
    return drafts.length > 0;
  }

  #programFolder(program: string): string {
    return join(this.folder, checkedName('the program', program));
  }

  #revisionFolder(place: RevisionPlace): string {
    if (!Number.isSafeInteger(place.revision) || place.revision < 1) {
      throw new LonglineError(
        'invalid',
        `revision ${place.revision} of ${place.program}: must be a whole number from 1`,
      );
    }
    return join(this.#programFolder(place.program), 'revisions', String(place.revision));
  }
}

/** A revision while it is pinned. */
export class RevisionDraft implements Disposable {
  readonly #folder: string;
  readonly #whole: string;
  #committed = false;

  constructor(folder: string, whole: string) {
    this.#folder = folder;
    this.#whole = whole;
  }

  functionPath(name: string): string {
    return join(this.#folder, 'programs', fileName(name));
  }

  mapPath(name: string): string {
    return join(this.#folder, 'maps', fileName(name));
  }

  /** From here on it is a revision. */
  commit(): void {
    renameSync(this.#folder, this.#whole);
    this.#committed = true;
  }

  [Symbol.dispose](): void {
    if (!this.#committed) rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** "counter revision 3", for messages. */
export function placeText(place: RevisionPlace): string {
  return `${place.program} revision ${place.revision}`;
}

/** ".rodata" becomes "-rodata": no name in C has a "-". */
function fileName(name: string): string {
  if (OBJECT_NAME.test(name)) return name.replaceAll('.', '-');
  throw new LonglineError('invalid', `${JSON.stringify(name)} can't be the name of a function or map in BPF`);
}

function objectName(file: string): string {
  return file.replaceAll('-', '.');
}

function checkedName(what: string, name: string): string {
  if (NAME.test(name)) return name;
  const right = 'must be 1 to 64 letters, digits, "_" or "-"';
  throw new LonglineError(
    'invalid',
    `${what} ${JSON.stringify(name)} can't be in a path of the BPF file system: ${right}`,
  );
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new LonglineError('unavailable', `${folder} can't be read`, { cause: error });
  }
}

function makePinFolder(folder: string): void {
  try {
    makeFolder(folder);
  } catch (error) {
    throw new LonglineError('unavailable', `${folder} can't be made; is a BPF file system mounted there?`, {
      cause: error,
    });
  }
}

/** Others may be faster to take it away, or to put something into it: both are fine. */
function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(code)) throw error;
  }
}
