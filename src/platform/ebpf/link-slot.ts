// What is pinned for one attachment of a program: a link, or a folder with a link for each processor or with the function of a
// filter, whose name says where that is. What takes the place of another is pinned beside it first, and renamed once it is whole;
// repair() finishes or takes back what a kill left of that. Knows nothing of what is attached how.
import { lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, type Stats, unlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { LonglineError } from '../../core/errors.ts';
import { type BpfFd, detachLink, ERRNO, errnoBehind, openPin, pin, programInfo } from './bpf-syscall.ts';
import { detachFilter, type FilterPlace, filterProgram } from './clsact-filter.ts';

const DRAFT = '-new';
const FORMER = '-old';
const FILTER = /^filter-(\d+)-(ingress|egress)-(\d+)(?:-new)?$/;
const MODE = 0o700;

/** What is there. The caller disposes descriptors. */
export type SlotContent =
  | { readonly kind: 'none' }
  | { readonly kind: 'links'; readonly links: readonly BpfFd[] }
  | { readonly kind: 'filter'; readonly filter: PinnedFilter };

/** A filter that was attached. */
export interface PinnedFilter {
  readonly place: FilterPlace;
  /** Of the function that was attached last. */
  readonly programId: number;
  /** True if a function of ours runs there: what others put there isn't touched. */
  readonly runs: boolean;
}

/** The pins of one attachment. */
export class LinkSlot {
  readonly #path: string;

  /** `path`: of the pin. Its folder has to be there. */
  constructor(path: string) {
    this.#path = path;
  }

  /** All slots of a folder, in order, after repair() of those that need it. */
  static all(folder: string): readonly LinkSlot[] {
    const names = namesIn(folder).filter((name) => !removeEmpty(join(folder, name)));
    const halfDone = new Set(names.flatMap((name) => /^(.*)-(?:new|old)$/.exec(name)?.[1] ?? []));
    if (halfDone.size === 0) return names.map((name) => new LinkSlot(join(folder, name)));
    for (const name of halfDone) new LinkSlot(join(folder, name)).repair();
    return namesIn(folder).map((name) => new LinkSlot(join(folder, name)));
  }

  get name(): string {
    return basename(this.#path);
  }

  get path(): string {
    return this.#path;
  }

  /** Finishes an exchange that a kill cut short if its new part is whole, else takes it back. */
  repair(): void {
    const there = this.#entry('') !== undefined;
    const former = this.#entry(FORMER) !== undefined;
    if (!there && former) {
      const whole = this.#entry(DRAFT) === undefined ? FORMER : DRAFT;
      renameSync(this.#path + whole, this.#path);
    }
    for (const suffix of [DRAFT, FORMER]) endPin(this.#path + suffix);
  }

  /** What is there. */
  open(): SlotContent {
    const entry = this.#entry('');
    if (entry === undefined) return { kind: 'none' };
    if (!entry.isDirectory()) return { kind: 'links', links: openAll([this.#path]) };
    const filter = readFilter(this.#path);
    if (filter !== undefined) return { kind: 'filter', filter };
    return { kind: 'links', links: openAll(namesIn(this.#path).map((name) => join(this.#path, name))) };
  }

  /** Pins these in place of what is there, which is ended then. Descriptors stay with the caller. */
  putLinks(links: readonly BpfFd[], single: boolean): void {
    this.#exchange((draft) => {
      if (single) return pin(links[0]!.fd, draft);
      mkdirSync(draft, { mode: MODE });
      for (const [index, link] of links.entries()) pin(link.fd, join(draft, `link-${index}`));
    });
  }

  /** Pins a function with the place of its filter, has that attached, and ends what was there. */
  putFilter(filter: FilterPlace, programFd: number, attach: () => void): void {
    this.#exchange((draft) => {
      mkdirSync(draft, { mode: MODE });
      pin(programFd, join(draft, filterName(filter)));
      attach();
    });
  }

  /** Pins another function for the filter that is there, and has it attached in its place. */
  renewFilter(place: FilterPlace, programFd: number, attach: () => void): void {
    const path = join(this.#path, filterName(place));
    const draft = path + DRAFT;
    const running = filterProgram(place);
    // What a kill left here may be what runs.
    if (idOfPin(draft) === running) renameSync(draft, path);
    else if (entryOf(draft) !== undefined) unlinkSync(draft);
    pin(programFd, draft);
    try {
      attach();
    } catch (error) {
      unlinkSync(draft);
      throw error;
    }
    renameSync(draft, path);
  }

  /** Ends what is there. Nothing happens if nothing is. */
  end(): void {
    endPin(this.#path);
  }

  #exchange(fill: (draft: string) => void): void {
    const draft = this.#path + DRAFT;
    this.repair();
    try {
      fill(draft);
    } catch (error) {
      endPin(draft);
      throw error;
    }
    if (this.#entry('') !== undefined) renameSync(this.#path, this.#path + FORMER);
    renameSync(draft, this.#path);
    endPin(this.#path + FORMER);
  }

  #entry(suffix: string): Stats | undefined {
    return entryOf(this.#path + suffix);
  }
}

/** Takes away what a kill left of a slot of several pins that was ended, all but the folder itself. True if it was that. */
function removeEmpty(path: string): boolean {
  if (entryOf(path)?.isDirectory() !== true || namesIn(path).length > 0) return false;
  rmdirSync(path);
  return true;
}

/** Ends what is pinned there, and takes the pin away. What is ended doesn't run any more when this returns. */
function endPin(path: string): void {
  const entry = entryOf(path);
  if (entry === undefined) return;
  if (entry.isDirectory()) {
    const filter = readFilter(path);
    if (filter?.runs === true) detachFilter(filter.place);
    for (const name of namesIn(path)) endPin(join(path, name));
    rmdirSync(path);
    return;
  }
  using link = openPin(path);
  // Links end with their last descriptor, but not before somebody in the kernel gets round to it: closing ours waits for that.
  if (link !== undefined) endLink(path, link);
  unlinkSync(path);
}

function endLink(path: string, link: BpfFd): void {
  try {
    detachLink(`ending ${path}`, link.fd);
  } catch (error) {
    const errno = errnoBehind(error);
    // Types that can't be ended so, functions beside a filter, and links whose interface is gone.
    if (errno !== ERRNO.EOPNOTSUPP && errno !== ERRNO.EINVAL && errno !== ERRNO.ENOLINK) throw error;
  }
}

function openAll(paths: readonly string[]): readonly BpfFd[] {
  const opened: BpfFd[] = [];
  try {
    for (const path of paths) {
      const link = openPin(path);
      if (link !== undefined) opened.push(link);
    }
    return opened;
  } catch (error) {
    for (const link of opened) link[Symbol.dispose]();
    throw error;
  }
}

/** The filter of a folder of pins: the function that it runs is pinned there, under a name that says where the filter is. */
function readFilter(folder: string): PinnedFilter | undefined {
  const names = namesIn(folder).filter((name) => FILTER.test(name));
  const [, index, direction, handle] = FILTER.exec(names[0] ?? '') ?? [];
  if (index === undefined) return undefined;
  const place = { index: Number(index), direction: direction as FilterPlace['direction'], handle: Number(handle) };
  const ids = names.map((name) => idOfPin(join(folder, name)));
  const running = filterProgram(place);
  return { place, programId: running ?? ids[0] ?? 0, runs: running !== undefined && ids.includes(running) };
}

function filterName({ direction, handle, index }: FilterPlace): string {
  return `filter-${index}-${direction}-${handle}`;
}

/** Id of a function that is pinned. 0 if none is. */
function idOfPin(path: string): number {
  using program = openPin(path);
  return program === undefined ? 0 : programInfo(program.fd).id;
}

function entryOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new LonglineError('unavailable', `${folder} can't be read`, { cause: error });
  }
}
