// Where things are pinned: <bpffs>/longline/<instance>/<program>/, and there revisions/<n>/programs/<type>-<name>,
// revisions/<n>/maps/<shape>-<name> and links/<slot>. Nothing outside the instance's folder is ever looked at. A revision comes as
// revisions/new-<n> and goes as revisions/gone-<n>, so that a kill leaves either all of it or what tidy() knows as half made. Knows
// nothing of what is pinned. Fails with `invalid` for names that can't be in a path, else with kernelError() or `unavailable`.
import { existsSync, readdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { RevisionPlace } from '../../capabilities/programs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { type BpfFd, openPin } from './bpf-syscall.ts';
import { makeFolder } from './folders.ts';

/** Names that are part of a path. No dots: the kernel keeps those for itself and says EPERM. */
const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const REVISION = /^[1-9]\d{0,9}$/;
const LEFTOVER = /^(new|gone)-[1-9]\d{0,9}$/;
const SLOT = /^[A-Za-z0-9_]{1,63}$/;
/** Of functions and maps; libbpf's names for maps of variables have dots. */
const OBJECT_NAME = /^[A-Za-z0-9_.$]{1,200}$/;

/** A function that is pinned. */
export interface PinnedFunction {
  readonly name: string;
  /** What it was loaded for, of enum bpf_attach_type. Only whoever loads it knows; so it is part of the pin's name. */
  readonly expectedAttachType: number;
}

/** A map that is pinned. */
export interface PinnedMap {
  readonly name: string;
  /** Hex digits that are the same for the same fields of key and value. The kernel tells these to the mighty only. */
  readonly shape: string;
}

/** Pins of one instance. */
export class Pins {
  /** Of the instance. */
  readonly folder: string;
  /** Folders of revisions that are being pinned by this process. */
  readonly #drafts = new Set<string>();

  constructor(mountPoint: string, instanceId: string) {
    this.folder = join(mountPoint, 'longline', checkedName('the instance id', instanceId));
  }

  /** Programs of which anything is there, in order. */
  programs(): readonly string[] {
    return namesIn(this.folder).filter((name) => NAME.test(name));
  }

  /** Revisions that are whole, lowest first. */
  revisions(program: string): readonly number[] {
    return revisionsOf(namesIn(this.#revisionsFolder(program)));
  }

  /** Functions of a revision that are pinned, in the order of their names. */
  functions(place: RevisionPlace): readonly PinnedFunction[] {
    const files = namesIn(`${this.#revisionFolder(place)}/programs`);
    return files.flatMap((file) => readFunctionFile(file) ?? []).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Maps of a revision that are pinned, in the order of their names. */
  maps(place: RevisionPlace): readonly PinnedMap[] {
    const files = namesIn(`${this.#revisionFolder(place)}/maps`);
    return files.flatMap((file) => readMapFile(file) ?? []).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** True if the revision is there, and whole. */
  has(place: RevisionPlace): boolean {
    return existsSync(this.#revisionFolder(place));
  }

  /** A function of a revision. Throws `not_found`. The caller disposes `held`. */
  openFunction(place: RevisionPlace, name: string): PinnedFunction & { readonly held: BpfFd } {
    const loaded = this.functions(place);
    const found = loaded.find((one) => one.name === name);
    const held = found === undefined ? undefined : this.openPinned(place, found);
    if (found !== undefined && held !== undefined) return { ...found, held };
    const what = loaded.length === 0 ? 'it has none' : `it has ${loaded.map((one) => one.name).join(', ')}`;
    throw new LonglineError('not_found', `function ${name} of ${placeText(place)} isn't loaded; ${what}`);
  }

  /** One of functions(). Undefined if it is gone meanwhile. The caller disposes it. */
  openPinned(place: RevisionPlace, pinned: PinnedFunction): BpfFd | undefined {
    return openPin(`${this.#revisionFolder(place)}/programs/${functionFile(pinned)}`);
  }

  /** A map of a revision. Undefined if it has none of that name. The caller disposes it. */
  openMap(place: RevisionPlace, name: string): BpfFd | undefined {
    const found = this.maps(place).find((one) => one.name === name);
    return found === undefined ? undefined : this.openPinnedMap(place, found);
  }

  /** One of maps(). Undefined if it is gone meanwhile. The caller disposes it. */
  openPinnedMap(place: RevisionPlace, pinned: PinnedMap): BpfFd | undefined {
    return openPin(`${this.#revisionFolder(place)}/maps/${mapFile(pinned)}`);
  }

  /** Folder of what is pinned for attachments of a program, one name for each slot. It may not be there. */
  linksFolder(program: string): string {
    return `${this.#programFolder(program)}/links`;
  }

  /** What is pinned for a slot, whether it is or not. */
  linkPath(program: string, slot: string): string {
    if (SLOT.test(slot)) return join(this.linksFolder(program), slot);
    const right = 'must be 1 to 63 letters, digits or "_"';
    throw new LonglineError('invalid', `slot ${JSON.stringify(slot)} of ${program}: ${right}`);
  }

  /** Makes the folder of attachments if it isn't there. */
  makeLinksFolder(program: string): void {
    makePinFolder(this.linksFolder(program));
  }

  /** Begins to pin a revision. Only commit() makes it one; disposing it before takes all of it away. */
  draft(place: RevisionPlace): RevisionDraft {
    const whole = this.#revisionFolder(place);
    const folder = join(this.#revisionsFolder(place.program), `new-${place.revision}`);
    if (this.#drafts.has(folder)) throw new LonglineError('wrong_state', `${placeText(place)} is being loaded already`);
    removePins(folder);
    for (const part of ['programs', 'maps']) makePinFolder(join(folder, part));
    this.#drafts.add(folder);
    return new RevisionDraft(folder, whole, () => this.#drafts.delete(folder));
  }

  /** Takes the pins of a revision away; what else holds its functions keeps them. Nothing happens if it isn't there. */
  remove(place: RevisionPlace): void {
    const whole = this.#revisionFolder(place);
    const going = join(this.#revisionsFolder(place.program), `gone-${place.revision}`);
    // From here on it is none, whatever comes between this and the last of its pins.
    if (existsSync(whole)) {
      removePins(going);
      renamePins(whole, going);
    }
    this.tidy(place.program);
  }

  /** Takes away what a kill left of revisions that came or went, and folders that are empty. Gives the revisions that are whole. */
  tidy(program: string): { readonly revisions: readonly number[]; readonly left: boolean } {
    const folder = this.#revisionsFolder(program);
    const names = namesIn(folder);
    const left = names.filter((name) => LEFTOVER.test(name) && !this.#drafts.has(join(folder, name)));
    for (const name of left) removePins(join(folder, name));
    if (names.length === left.length) {
      for (const empty of [folder, this.linksFolder(program), this.#programFolder(program), this.folder])
        removeEmpty(empty);
    }
    return { left: left.length > 0, revisions: revisionsOf(names) };
  }

  #revisionsFolder(program: string): string {
    return `${this.#programFolder(program)}/revisions`;
  }

  #programFolder(program: string): string {
    return `${this.folder}/${checkedName('the program', program)}`;
  }

  #revisionFolder(place: RevisionPlace): string {
    if (!Number.isSafeInteger(place.revision) || place.revision < 1) {
      throw new LonglineError(
        'invalid',
        `revision ${place.revision} of ${place.program}: must be a whole number from 1`,
      );
    }
    return `${this.#revisionsFolder(place.program)}/${place.revision}`;
  }
}

/** A revision while it is pinned. */
export class RevisionDraft implements Disposable {
  readonly #folder: string;
  readonly #whole: string;
  readonly #over: () => void;
  #committed = false;

  constructor(folder: string, whole: string, over: () => void) {
    this.#folder = folder;
    this.#whole = whole;
    this.#over = over;
  }

  functionPath(pinned: PinnedFunction): string {
    return join(this.#folder, 'programs', functionFile(pinned));
  }

  mapPath(pinned: PinnedMap): string {
    return join(this.#folder, 'maps', mapFile(pinned));
  }

  /** From here on it is a revision. */
  commit(): void {
    renamePins(this.#folder, this.#whole);
    this.#committed = true;
  }

  [Symbol.dispose](): void {
    if (!this.#committed) removePins(this.#folder);
    this.#over();
  }
}

/** "counter revision 3", for messages. */
export function placeText(place: RevisionPlace): string {
  return `${place.program} revision ${place.revision}`;
}

function revisionsOf(names: readonly string[]): readonly number[] {
  return names.flatMap((name) => (REVISION.test(name) ? [Number(name)] : [])).sort((a, b) => a - b);
}

function functionFile({ expectedAttachType, name }: PinnedFunction): string {
  return `${expectedAttachType}-${fileName(name)}`;
}

function readFunctionFile(file: string): PinnedFunction | undefined {
  const [, type, name] = /^(\d{1,4})-(.+)$/.exec(file) ?? [];
  return name === undefined ? undefined : { expectedAttachType: Number(type), name: objectName(name) };
}

function mapFile({ name, shape }: PinnedMap): string {
  return `${shape}-${fileName(name)}`;
}

function readMapFile(file: string): PinnedMap | undefined {
  const [, shape, name] = /^([0-9a-f]{1,64})-(.+)$/.exec(file) ?? [];
  return shape === undefined || name === undefined ? undefined : { name: objectName(name), shape };
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

function removePins(folder: string): void {
  orUnavailable(`${folder} can't be taken away`, () => rmSync(folder, { force: true, recursive: true }));
}

function renamePins(from: string, to: string): void {
  orUnavailable(`${from} can't become ${to}`, () => renameSync(from, to));
}

function makePinFolder(folder: string): void {
  orUnavailable(`${folder} can't be made; is a BPF file system mounted there?`, () => makeFolder(folder));
}

function orUnavailable<T>(message: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new LonglineError('unavailable', message, { cause: error });
  }
}

/** Others may be faster to take it away, or to put something into it: both are fine. */
function removeEmpty(folder: string): void {
  if (!existsSync(folder) || readdirSync(folder).length > 0) return;
  try {
    rmdirSync(folder);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(code)) {
      throw new LonglineError('unavailable', `${folder} can't be taken away`, { cause: error });
    }
  }
}
