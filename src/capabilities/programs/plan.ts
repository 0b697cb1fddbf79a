// From what is found of a program in the kernel to what is wanted of it, one stage after the other. Pure. A stage is carried out, what
// is there is looked at again, and the next stage is planned from that: so nothing is taken away before what takes its place was seen
// to be there, and a process that is killed between two steps is followed by one that goes on.
import { exclusiveKey, type Place } from './place.ts';
import type { FoundLink, FoundProgram, FoundRevision } from './ports.ts';

/** A revision as far as it matters here. */
export interface PlannedRevision {
  readonly number: number;
  /** Names of all functions that it is loaded with. */
  readonly functions: readonly string[];
  readonly places: readonly Place[];
}

/** What is wanted. */
export interface Wanted {
  /** Runs, at all of its places and nowhere else; undefined for nothing. */
  readonly run: PlannedRevision | undefined;
  /** Stays loaded, and is loaded again if it isn't. */
  readonly ready: PlannedRevision | undefined;
  /** Stays loaded if it is. */
  readonly keep: readonly PlannedRevision[];
}

/** One effect. */
export type Step =
  | { readonly kind: 'load'; readonly revision: PlannedRevision }
  /** Nothing of ours is there. */
  | { readonly kind: 'attach'; readonly revision: PlannedRevision; readonly place: Place }
  /** Another revision of ours is there, and hands over from one packet to the next. */
  | { readonly kind: 'replace'; readonly revision: PlannedRevision; readonly place: Place }
  | { readonly kind: 'detach'; readonly slot: string }
  | { readonly kind: 'unload'; readonly revision: number };

/** Nothing of a program. */
export const NOTHING: Wanted = { run: undefined, ready: undefined, keep: [] };

/**
 * The next steps, in order; none if all is as wanted. Places in `given up` count as if they could not be had: they are not tried, and
 * what else runs there goes.
 */
export function nextStage(
  wanted: Wanted,
  found: FoundProgram | undefined,
  givenUp: ReadonlySet<string> = new Set(),
): readonly Step[] {
  const { run, ready } = wanted;
  const revisions = found?.revisions ?? [];
  const links = found?.links ?? [];
  const running = run === undefined ? undefined : wholeRevision(run, revisions);
  if (run !== undefined && running === undefined) return [{ kind: 'load', revision: run }];
  const orphans = orphanSteps(wanted, links);
  if (orphans.length > 0) return orphans;
  const attaching = run === undefined ? [] : attachSteps(wanted, run, running!, links, givenUp);
  if (attaching.length > 0) return attaching;
  const leaving = leavingSteps(run, running, links);
  if (leaving.length > 0) return leaving;
  const kept = new Set([run, ready, ...wanted.keep].map((revision) => revision?.number));
  const unloading = revisions.filter(({ place }) => !kept.has(place.revision));
  if (unloading.length > 0) return unloading.map(({ place }) => ({ kind: 'unload', revision: place.revision }));
  if (ready === undefined || wholeRevision(ready, revisions) !== undefined) return [];
  return [{ kind: 'load', revision: ready }];
}

/** Places of a revision where it doesn't run. */
export function missingPlaces(run: PlannedRevision, found: FoundProgram | undefined): readonly Place[] {
  const running = wholeRevision(run, found?.revisions ?? []);
  const links = new Map(found?.links.map((link) => [link.slot, link]));
  return run.places.filter((place) => !runsThere(links.get(place.slot), place, running));
}

/** The revision as it is found, if nothing of it is missing. */
export function wholeRevision(
  { number, functions }: PlannedRevision,
  revisions: readonly FoundRevision[],
): FoundRevision | undefined {
  const found = revisions.find(({ place }) => place.revision === number);
  const names = new Set(found?.functions.map(({ name }) => name));
  return functions.every((name) => names.has(name)) ? found : undefined;
}

/** Attachments that nobody knows any more: they may be in the way of anything. */
function orphanSteps({ run, ready, keep }: Wanted, links: readonly FoundLink[]): readonly Step[] {
  const known = new Set([run, ready, ...keep].flatMap((revision) => revision?.places.map(({ slot }) => slot) ?? []));
  return links.filter(({ slot }) => !known.has(slot)).map(({ slot }) => ({ kind: 'detach', slot }));
}

function attachSteps(
  { ready, keep }: Wanted,
  run: PlannedRevision,
  running: FoundRevision,
  links: readonly FoundLink[],
  givenUp: ReadonlySet<string>,
): readonly Step[] {
  const bySlot = new Map(links.map((link) => [link.slot, link]));
  const others = [ready, ...keep].flatMap((revision) => revision?.places ?? []);
  const steps: Step[] = [];
  for (const place of run.places) {
    const link = bySlot.get(place.slot);
    if (givenUp.has(place.slot) || runsThere(link, place, running)) continue;
    const inTheWay = others.find((other) => isInTheWay(other, place) && bySlot.has(other.slot));
    if (inTheWay !== undefined) steps.push({ kind: 'detach', slot: inTheWay.slot });
    if (link?.gone === true) steps.push({ kind: 'detach', slot: place.slot });
    const replaces = link !== undefined && !link.gone && place.atomic;
    steps.push({ kind: replaces ? 'replace' : 'attach', revision: run, place });
  }
  return steps;
}

function isInTheWay(other: Place, place: Place): boolean {
  const key = exclusiveKey(place);
  return key !== undefined && exclusiveKey(other) === key && other.slot !== place.slot;
}

/** What runs something else than it is to, or where nothing is to run. */
function leavingSteps(
  run: PlannedRevision | undefined,
  running: FoundRevision | undefined,
  links: readonly FoundLink[],
): readonly Step[] {
  const places = new Map(run?.places.map((place) => [place.slot, place]));
  const stays = (link: FoundLink) => {
    const place = places.get(link.slot);
    // What is gone runs nothing, and keeps the name until it can be attached again.
    return place !== undefined && (link.gone || runsThere(link, place, running));
  };
  return links.filter((link) => !stays(link)).map(({ slot }) => ({ kind: 'detach', slot }));
}

function runsThere(link: FoundLink | undefined, place: Place, running: FoundRevision | undefined): boolean {
  const id = running?.functions.find(({ name }) => name === place.function)?.id;
  return link !== undefined && !link.gone && id !== undefined && link.programId === id;
}
