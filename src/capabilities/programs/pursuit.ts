// Carries out what is planned for one program, step by step, until all is as wanted: each stage is planned from what was found after
// the one before. Whatever fails leaves something that the next try can go on from.
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import { attachText } from '../../core/programs/attach-point.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { traced } from '../../core/tracer.ts';
import { faultOf, ProgramFault } from './fault.ts';
import type { Place } from './place.ts';
import { nextStage, type PlannedRevision, type Step, type Wanted } from './plan.ts';
import type { FoundProgram } from './ports.ts';
import type { Prepared } from './preparation.ts';
import type { RevisionRecord } from './revision-record.ts';
import type { ProgramServices } from './services.ts';

/** No plan has more stages than this; a kernel that never comes to be as wanted ends there. */
const MOST_STAGES = 24;

/** How it is gone about. */
export interface PursuitManner {
  /** True: a place that can't be had costs the others nothing. False: the first failure ends it. */
  readonly tolerant: boolean;
  /** Places that are not tried now, by slot. */
  readonly skip: ReadonlySet<string>;
  /** Gives what a revision is loaded from. */
  readonly prepared: (revision: RevisionRecord) => Promise<Prepared>;
  /** The revision that is to run was loaded. */
  readonly loaded: (revision: RevisionRecord) => Promise<void>;
}

/** One per program. */
export class Pursuit {
  readonly #name: string;
  readonly #services: Pick<ProgramServices, 'kernel' | 'listing' | 'log' | 'tracer'>;
  #found: FoundProgram | undefined;
  #isFresh = false;

  constructor(name: string, services: Pick<ProgramServices, 'kernel' | 'listing' | 'log' | 'tracer'>) {
    this.#name = name;
    this.#services = services;
  }

  /** As it was found last. */
  get found(): FoundProgram | undefined {
    return this.#found;
  }

  /** Says what is there, as it was found just now. */
  know(found: FoundProgram | undefined): void {
    this.#found = found;
    this.#isFresh = true;
  }

  /** What was found may not be so any more. */
  doubt(): void {
    this.#isFresh = false;
  }

  /** What is there now. Throws what the kernel throws. */
  async look(signal: AbortSignal): Promise<FoundProgram | undefined> {
    if (this.#isFresh) return this.#found;
    this.know(await this.#services.listing.look(this.#name));
    signal.throwIfAborted();
    return this.#found;
  }

  /**
   * Brings it about that all is as wanted. Gives the places that could not be had, by slot. Throws a ProgramFault, or what the kernel
   * throws for what is to go.
   */
  async reach(
    wanted: WantedRevisions,
    manner: PursuitManner,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, ProgramFault>> {
    const faults = new Map<string, ProgramFault>();
    for (let stage = 0; stage < MOST_STAGES; stage++) {
      const steps = nextStage(plannedOf(wanted), await this.look(signal), new Set([...faults.keys(), ...manner.skip]));
      if (steps.length === 0) return faults;
      for (const step of steps) await this.#try(step, wanted, manner, faults, signal);
    }
    const message = `program ${this.#name} doesn't come to be as wanted in ${MOST_STAGES} stages; it is looked at again later`;
    throw new LonglineError('internal', message);
  }

  async #try(
    step: Step,
    wanted: WantedRevisions,
    manner: PursuitManner,
    faults: Map<string, ProgramFault>,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    this.#isFresh = false;
    this.#services.listing.changing();
    try {
      await this.#perform(step, wanted, manner, signal);
    } catch (error) {
      const isPlace = step.kind === 'attach' || step.kind === 'replace';
      if (!manner.tolerant || !isPlace || signal.aborted) throw error;
      faults.set(step.place.slot, faultOf('attach', 'attach', error));
    } finally {
      this.#services.listing.changing();
    }
  }

  async #perform(step: Step, wanted: WantedRevisions, manner: PursuitManner, signal: AbortSignal): Promise<void> {
    const { kernel, log, tracer } = this.#services;
    const program = this.#name;
    switch (step.kind) {
      case 'load':
        return await traced(tracer, SPAN.load, { attributes: { [ATTRIBUTE.revision]: step.revision.number } }, () =>
          this.#load(step.revision, wanted, manner, signal),
        );
      case 'attach':
      case 'replace': {
        const { place, revision } = step;
        const order = { ...place, place: { program, revision: revision.number } };
        try {
          const attributes = { [ATTRIBUTE.subject]: attachText(place.point), [ATTRIBUTE.revision]: revision.number };
          await traced(tracer, SPAN.attach, { attributes }, async () => await kernel[step.kind](order, signal));
        } catch (error) {
          throw faultOf('attach', placeField(place, revision), error);
        }
        break;
      }
      case 'detach':
        await kernel.detach(program, step.slot, signal);
        break;
      case 'unload':
        await kernel.unload({ program, revision: step.revision }, signal);
    }
    log.debug('a step of a program is done', { program, step: step.kind });
  }

  async #load(
    { number }: PlannedRevision,
    wanted: WantedRevisions,
    manner: PursuitManner,
    signal: AbortSignal,
  ): Promise<void> {
    const revision = [wanted.run, wanted.ready].find((one) => one?.number === number)!;
    const { metadata, object, resolved } = await manner.prepared(revision);
    const others = [wanted.ready, ...wanted.keep, wanted.run].filter((one) => one !== undefined && one !== revision);
    const donor = others.find((one) => this.#found?.revisions.some(({ place }) => place.revision === one?.number));
    const place = { program: this.#name, revision: number };
    const outcome = await this.#services.kernel
      .load(
        {
          place,
          object,
          functions: resolved.functions,
          writes: resolved.writes,
          carryFrom: donor === undefined ? undefined : { program: this.#name, revision: donor.number },
          freshMaps: [...metadata.freshMaps, ...rewrittenMaps(revision, donor)],
          objectSha256: metadata.objectSha256,
        },
        signal,
      )
      .catch((error: unknown) => {
        throw loadFault(error, new Set(resolved.writes.map(({ parameter }) => parameter)));
      });
    if (outcome.kind === 'refused') throw new ProgramFault('verifier', 'verifier', outcome.error, outcome.verifierLog);
    const { carriedMaps } = outcome;
    this.#services.log.info('a revision of a program was loaded', { ...place, carried: carriedMaps.join(',') });
    if (number !== wanted.run?.number) return;
    await manner.loaded(revision).catch((error: unknown) => {
      signal.throwIfAborted();
      this.#services.log.debug('a revision is not measured from its beginning', {
        ...place,
        err: describeError(error),
      });
    });
  }
}

/** What is wanted, by records. */
export interface WantedRevisions {
  readonly run: RevisionRecord | undefined;
  readonly ready: RevisionRecord | undefined;
  readonly keep: readonly RevisionRecord[];
}

export const NOTHING_WANTED: WantedRevisions = { run: undefined, ready: undefined, keep: [] };

/** A revision as plans have it. */
export function plannedRevision({ number, functions, places }: RevisionRecord): PlannedRevision {
  return { number, functions: functions.map(({ name }) => name), places };
}

function plannedOf({ run, ready, keep }: WantedRevisions): Wanted {
  const planned = (one: RevisionRecord | undefined) => (one === undefined ? undefined : plannedRevision(one));
  return { run: planned(run), ready: planned(ready), keep: keep.map(plannedRevision) };
}

/** What loading failed with: by the parameter if it is about one, else by whose fault it is. */
function loadFault(thrown: unknown, parameters: ReadonlySet<string>): ProgramFault {
  const error = toLonglineError(thrown);
  const named = error.violations[0]?.field;
  if (named !== undefined && parameters.has(named)) return new ProgramFault('load', `parameters.${named}`, error);
  return new ProgramFault('load', error.reason === 'invalid' ? 'artifact' : 'kernel', error);
}

/** Maps that hold other parameters than before: shared, the revision before would go by them at once, and after a rollback too. */
function rewrittenMaps({ mapWrites }: RevisionRecord, donor: RevisionRecord | undefined): readonly string[] {
  const before = donor?.mapWrites ?? {};
  const maps = new Set([...Object.keys(mapWrites), ...Object.keys(before)]);
  return [...maps].filter((map) => mapWrites[map] !== before[map]);
}

function placeField(place: Place, { places }: PlannedRevision): string {
  const index = places.indexOf(place);
  return index < 0 ? `attach (${attachText(place.point)})` : `attach[${index}]`;
}
