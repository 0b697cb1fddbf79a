// Tells what programs write to their ring buffers as events of the host, at a bounded rate: each ring buffer by what its artifact says,
// all together by what the host allows. What is too much is taken out, counted and not told, so that a ring buffer never fills up for
// want of a reader. Records come from a program that may be wrong: no length, text or number in them is relied on. A ring buffer that
// can't be read any more is closed and said so; the others go on.
import type { HostEvent } from '../../core/capability.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { ArtifactEvents, EventField } from '../../core/programs/metadata.ts';
import { decodeValue } from '../../core/programs/parameter.ts';
import { Allowance } from './allowance.ts';
import type { EventCounts } from './figures.ts';
import type { EventStream, Kernel, RevisionPlace } from './ports.ts';

const POLL_MS = 200;
/** Records that are taken from one ring buffer at a time, before the others have their turn. */
const MOST_AT_ONCE = 4096;
/** What the controller keeps of an event at most, less what is told of each. */
const MAX_FIELDS = 26;
const MAX_TEXT = 1000;
const MAX_HEX_BYTES = 256;
const OWN_NAMES: ReadonlySet<string> = new Set(['program', 'revision', 'map', 'dropped', 'record', 'record_bytes']);

/** What a relay is made from. */
export interface EventRelayOptions {
  readonly kernel: Pick<Kernel, 'openEvents'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly emit: (event: HostEvent) => void;
  /** Of all ring buffers together. */
  readonly eventsPerSecond: number;
}

interface Source {
  readonly place: RevisionPlace;
  readonly described: ArtifactEvents;
  readonly stream: EventStream;
  readonly allowance: Allowance;
  /** Since one was told last. */
  untold: number;
}

interface Followed {
  readonly place: RevisionPlace;
  readonly sources: Source[];
  events: number;
  droppedEvents: number;
}

/** One per open capability. Dispose to close all ring buffers. */
export class EventRelay implements Disposable {
  readonly #options: EventRelayOptions;
  readonly #followed = new Map<string, Followed>();
  readonly #allowance: Allowance;
  #first = 0;
  #wake: (() => void) | undefined;

  constructor(options: EventRelayOptions) {
    this.#options = options;
    this.#allowance = new Allowance(options.eventsPerSecond, options.clock);
  }

  /**
   * Follows the ring buffers of a revision, instead of those of another revision of this program: the two may share them, and a
   * ring buffer has one reader. Counts begin anew. Throws what the kernel throws; then none of them is followed.
   */
  follow(place: RevisionPlace, events: readonly ArtifactEvents[]): void {
    this.forget(place.program);
    using opened = new DisposableStack();
    const { kernel, clock } = this.#options;
    const sources = events.map((described): Source => {
      const stream = opened.use(kernel.openEvents(place, described.map));
      return { place, described, stream, allowance: new Allowance(described.perSecond, clock), untold: 0 };
    });
    opened.move();
    this.#followed.set(place.program, { place, sources, events: 0, droppedEvents: 0 });
    this.#wake?.();
  }

  /** Closes what is followed of a program. Nothing happens if nothing is. */
  forget(program: string): void {
    for (const { stream } of this.#followed.get(program)?.sources ?? []) stream[Symbol.dispose]();
    this.#followed.delete(program);
  }

  /** Of the revision that is followed; zeros if it isn't. */
  counts({ program, revision }: RevisionPlace): EventCounts {
    const followed = this.#followed.get(program);
    if (followed?.place.revision !== revision) return { events: 0, droppedEvents: 0 };
    return { events: followed.events, droppedEvents: followed.droppedEvents };
  }

  /** Relays until the signal aborts. Costs nothing while nothing is followed. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      if (!this.#following) await this.#somethingFollowed(signal);
      this.relay();
      await clock.sleep(POLL_MS, signal).catch(() => undefined);
    }
  }

  /** Tells what has come so far, as far as the rates allow. */
  relay(): void {
    const all = [...this.#followed.values()].flatMap((followed) =>
      followed.sources.map((source) => ({ followed, source })),
    );
    // Another one is first each time, so that one that always has something doesn't take what is left for all.
    this.#first = all.length === 0 ? 0 : (this.#first + 1) % all.length;
    for (const { followed, source } of [...all.slice(this.#first), ...all.slice(0, this.#first)]) {
      try {
        this.#relayFrom(followed, source);
      } catch (error) {
        this.#close(followed, source, error);
      }
    }
  }

  [Symbol.dispose](): void {
    for (const program of [...this.#followed.keys()]) this.forget(program);
    this.#wake?.();
  }

  get #following(): boolean {
    return this.#followed.values().some(({ sources }) => sources.length > 0);
  }

  async #somethingFollowed(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    signal.addEventListener('abort', this.#wake, { once: true });
    await promise;
    // The signal lives as long as the process.
    signal.removeEventListener('abort', this.#wake);
  }

  #relayFrom(followed: Followed, source: Source): void {
    for (const record of source.stream.take(MOST_AT_ONCE)) {
      if (!source.allowance.some || !this.#allowance.some) {
        followed.droppedEvents += 1;
        source.untold += 1;
        continue;
      }
      source.allowance.take();
      this.#allowance.take();
      followed.events += 1;
      this.#options.emit(eventOf(source, record));
      source.untold = 0;
    }
  }

  #close(followed: Followed, source: Source, error: unknown): void {
    const { program, revision } = source.place;
    const facts = { program, revision, map: source.described.map, err: describeError(error) };
    this.#options.log.warn('events of a program can no longer be read', facts);
    followed.sources.splice(followed.sources.indexOf(source), 1);
    source.stream[Symbol.dispose]();
  }
}

function eventOf({ place, described, untold }: Source, record: Uint8Array): HostEvent {
  const { program, revision } = place;
  const fields = described.fields.length === 0 ? { record: hexOf(record) } : fieldsOf(described.fields, record);
  const told = Object.entries(fields).map(([name, text]) => `${name}=${text}`);
  const dropped = untold > 0 ? { dropped: String(untold) } : {};
  return {
    type: `program.${described.type}`,
    message: cut([`${program}: ${described.type}`, ...told].join(' ')),
    attributes: { ...fields, program, revision: String(revision), map: described.map, ...dropped },
  };
}

/** Fields that are there; `record_bytes` tells how short the record was if one isn't. */
function fieldsOf(fields: readonly EventField[], record: Uint8Array): Record<string, string> {
  const told: Record<string, string> = {};
  for (const { name, type, offset, size } of fields.slice(0, MAX_FIELDS)) {
    if (offset + size > record.length) told['record_bytes'] = String(record.length);
    else
      told[OWN_NAMES.has(name) ? `field.${name}` : name] = readable(
        decodeValue(type, record.subarray(offset, offset + size)),
      );
  }
  return told;
}

/** Text that somebody may print: without what a terminal would act on. */
function readable(text: string): string {
  return cut(text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\u{fffd}'));
}

function hexOf(record: Uint8Array): string {
  const hex = Buffer.from(record.subarray(0, MAX_HEX_BYTES)).toString('hex');
  return record.length > MAX_HEX_BYTES ? `${hex}…` : hex;
}

function cut(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 1).toWellFormed()}…` : text;
}
