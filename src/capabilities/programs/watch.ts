// Looks at what programs do, again and again, and has those rolled back that do what they shouldn't: once a threshold is exceeded it is
// waited a little and looked again, so that one bad moment is no reason. Figures go to whoever wants them. Knows programs by what they
// let see; deciding and going back is theirs.
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { Progress } from '../../core/progress.ts';
import { announced } from './announcer.ts';
import type { ProgramsConfig } from './config.ts';
import type { EventRelay } from './event-relay.ts';
import type { ProgramFigures } from './figures.ts';
import type { MeterSubject, ProgramMeter } from './meter.ts';
import { LATE_MS, PASS_LIMIT_MS } from './pauses.ts';
import type { Announcements, ProgramReports } from './ports.ts';
import { type RevisionRecord, remembered } from './revision-record.ts';
import type { RollbackCause, RollbackRecord } from './rollback.ts';
import type { Surveillance } from './services.ts';
import type { ProgramView } from './status.ts';
import { type Breach, judge } from './thresholds.ts';
import type { WatchedRevision } from './watched.ts';
import { encodeTelemetry } from './wire.ts';

/** A program, as far as it is watched. */
export interface Watchable {
  readonly name: string;
  /** What runs now, and how it is judged; undefined for nothing. */
  readonly watched: WatchedRevision | undefined;
  view(): ProgramView;
  rollBack(cause: RollbackCause, of: { readonly revision: number }): Promise<RollbackRecord>;
}

/** What it is made from. */
export interface WatchOptions {
  readonly meter: ProgramMeter;
  readonly relay: EventRelay;
  readonly announcements: Announcements;
  readonly reports: ProgramReports;
  readonly config: ProgramsConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly programs: () => Iterable<Watchable>;
}

/** What was measured last of a program. */
export interface LastMeasured {
  readonly revision: number;
  readonly figures: ProgramFigures;
}

/** One per capability. */
export class Watch implements Surveillance {
  /** Whether looks go on. */
  readonly progress: Progress;
  readonly #options: WatchOptions;
  readonly #last = new Map<string, LastMeasured>();
  readonly #followed = new Map<string, string>();
  readonly #suspects = new Set<string>();
  /** Programs that could not be read when they were looked at last, and why. */
  readonly #unread = new Map<string, string>();

  constructor(options: WatchOptions) {
    this.#options = options;
    this.progress = new Progress('programs', options.clock);
  }

  /** What was measured last, by program. */
  get last(): ReadonlyMap<string, LastMeasured> {
    return this.#last;
  }

  async loaded(name: string, revision: RevisionRecord, signal: AbortSignal): Promise<void> {
    await this.#options.meter.begin(this.#subject(name, revision, true), signal);
  }

  running(name: string, revision: RevisionRecord): void {
    const key = `${revision.number} ${revision.loadedAtMs}`;
    if (this.#followed.get(name) === key) return;
    this.#followed.set(name, key);
    try {
      this.#options.relay.follow({ program: name, revision: revision.number }, revision.events);
    } catch (error) {
      const facts = { program: name, revision: revision.number, err: describeError(error) };
      this.#options.log.warn('events of a program can not be read', facts);
    }
  }

  stopped(name: string): void {
    const { relay, meter } = this.#options;
    if (this.#followed.delete(name)) relay.forget(name);
    meter.forget(name);
    this.#last.delete(name);
    this.#unread.delete(name);
  }

  /** Looks until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, config, log, meter } = this.#options;
    // A look may take a window at its end, which is part of the interval.
    const pauseMs = Math.max(1, config.checkIntervalMs - meter.windowMs);
    while (!signal.aborted) {
      this.progress.expect(pauseMs + LATE_MS, 'the next look at what they do');
      await clock.sleep(pauseMs, signal).catch(() => undefined);
      if (signal.aborted) return this.progress.rest();
      this.progress.expect(config.rollbackDelayMs + PASS_LIMIT_MS, 'a look at what they do');
      try {
        await this.#round(signal);
      } catch (error) {
        if (!signal.aborted) log.error('programs could not be looked at', { err: describeError(error) });
      }
    }
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { announcements, config, clock } = this.#options;
    const all = this.#watched();
    announcements.heartbeat(all.length);
    const breaches = await this.#look(all, false, signal);
    if (breaches.size === 0) return;
    for (const name of breaches.keys()) this.#suspects.add(name);
    try {
      await clock.sleep(config.rollbackDelayMs, signal);
      const suspects = this.#watched().filter(({ name }) => breaches.has(name));
      for (const [name, { breach, figures, revision }] of await this.#look(suspects, true, signal)) {
        this.#rollBack(name, revision, breach, figures);
      }
    } finally {
      this.#suspects.clear();
    }
  }

  /** Measures them, tells it, and gives those that exceed a threshold. */
  async #look(programs: readonly Watchable[], inProportion: boolean, signal: AbortSignal): Promise<Map<string, Found>> {
    const { meter, config, announcements, reports } = this.#options;
    const watched = programs.flatMap((program) => {
      const what = program.watched;
      return what === undefined ? [] : [{ program, what }];
    });
    const subjects = watched.map(({ program, what }) => this.#subject(program.name, what.revision, what.closely));
    const found = new Map<string, Found>();
    const told = [];
    for (const [index, measurement] of (await meter.look(subjects, signal)).entries()) {
      const { program, what } = watched[index]!;
      if (measurement.kind === 'failed') this.#unreadable(program.name, what.revision.number, measurement.error);
      else this.#unread.delete(program.name);
      if (measurement.kind !== 'measured') continue;
      const { figures } = measurement;
      const { revision, thresholds } = what;
      this.#last.set(program.name, { revision: revision.number, figures });
      const view = program.view();
      reports.measured(encodeTelemetry(view, remembered(revision), figures));
      told.push({ ...announced(view), figures });
      const breach = judge(figures, thresholds, { checkIntervalMs: config.checkIntervalMs, inProportion });
      if (breach !== undefined) found.set(program.name, { breach, figures, revision: revision.number });
    }
    if (told.length > 0) announcements.measured(told);
    return found;
  }

  /** Nothing is judged of it meanwhile. Said once for the same trouble. */
  #unreadable(program: string, revision: number, error: unknown): void {
    const err = describeError(error);
    if (this.#unread.get(program) === err) return;
    this.#unread.set(program, err);
    this.#options.log.warn('a program can not be looked at, and goes unwatched', { program, revision, err });
  }

  #rollBack(name: string, revision: number, breach: Breach, figures: ProgramFigures): void {
    const program = this.#watched().find((one) => one.name === name);
    const { trigger, threshold, value, reason } = breach;
    const cause: RollbackCause = { trigger, threshold, value, reason, figures, requestedBy: '' };
    // Not waited for: the others are looked at meanwhile. Whatever hinders it is told as a problem of the program.
    program?.rollBack(cause, { revision }).catch((error: unknown) => {
      this.#options.log.warn('a program could not be rolled back', { program: name, err: describeError(error) });
    });
  }

  #watched(): readonly Watchable[] {
    return [...this.#options.programs()].filter(({ watched }) => watched !== undefined);
  }

  #subject(name: string, { number, counters }: RevisionRecord, closely: boolean): MeterSubject {
    const place = { program: name, revision: number };
    const events = this.#options.relay.counts(place);
    return { place, counters, events, closely: closely || this.#suspects.has(name) };
  }
}

interface Found {
  readonly breach: Breach;
  readonly figures: ProgramFigures;
  readonly revision: number;
}
