// Removes images that this agent pulled and nobody needs any more, oldest use first, when the disk fills up. What it pulled
// is on record; an image that was there before, or that somebody else brought, is never touched.
import type { StateStore } from '../../core/capability.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { ImageFacts } from '../../core/images/image.ts';
import type { ImageLedger } from '../../core/images/image-puller.ts';
import type { Logger } from '../../core/logger.ts';
import type { ImageRetention } from './config.ts';
import type { DiskSpace, SessionImages } from './ports.ts';

/** What is known of an image that this agent pulled. */
export interface PulledImage {
  readonly id: string;
  readonly reference: string;
  readonly usedAtMs: number;
}

/** What the collector works with. */
export interface CollectorParts {
  readonly engine: SessionImages;
  readonly state: StateStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly retention: ImageRetention;
  /** Ids that sessions are made from, also those that sleep. */
  readonly inUse: () => ReadonlySet<string>;
}

const PREFIX = 'image/';
const EVERY_MS = 5 * 60_000;
/** An image used again within this is not noted again: jobs may use one many times a second. */
const NOTE_EVERY_MS = 60_000;
const MOST_NOTED = 4096;

/** Images to remove, first to go first: ours, unused for long enough, by the time of their last use. Pure. */
export function removable(
  pulled: readonly PulledImage[],
  inUse: ReadonlySet<string>,
  nowMs: number,
  retention: Pick<ImageRetention, 'minAgeMs'>,
): readonly PulledImage[] {
  return pulled
    .filter(({ id, usedAtMs }) => !inUse.has(id) && nowMs - usedAtMs >= retention.minAgeMs)
    .sort((left, right) => left.usedAtMs - right.usedAtMs);
}

/** Use of a disk in percent. */
export function usedPercent({ totalBytes, freeBytes }: DiskSpace): number {
  return totalBytes === 0 ? 0 : (100 * (totalBytes - freeBytes)) / totalBytes;
}

/** One per agent. */
export class ImageCollector implements ImageLedger {
  readonly #parts: CollectorParts;
  readonly #notedAtMs = new Map<string, number>();
  #writing: Promise<unknown> = Promise.resolve();

  constructor(parts: CollectorParts) {
    this.#parts = parts;
  }

  pulled({ id }: ImageFacts, reference: string): void {
    this.#write({ id, reference, usedAtMs: this.#parts.clock.now() });
  }

  /** Only of note if it is one of ours, and not at every use. */
  used({ id }: ImageFacts): void {
    const { state, clock } = this.#parts;
    const nowMs = clock.now();
    if (nowMs - (this.#notedAtMs.get(id) ?? Number.NEGATIVE_INFINITY) < NOTE_EVERY_MS) return;
    if (this.#notedAtMs.size >= MOST_NOTED) this.#notedAtMs.clear();
    this.#notedAtMs.set(id, nowMs);
    this.#then(async () => {
      const known = decode(await state.get(PREFIX + id));
      if (known !== undefined) await state.put(PREFIX + id, encode({ ...known, usedAtMs: clock.now() }));
    });
  }

  /** Collects now and again until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, retention, log } = this.#parts;
    while (retention.enabled && !signal.aborted) {
      await clock.sleep(EVERY_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      await this.collect(signal).catch((error: unknown) => {
        if (!signal.aborted) log.warn('images could not be collected', { detail: describeError(error) });
      });
    }
  }

  /** Removes images until the disk is below its low mark; ids of those removed. Does nothing below the high mark. */
  async collect(signal?: AbortSignal): Promise<readonly string[]> {
    const { engine, state, clock, retention, inUse, log } = this.#parts;
    await this.#writing;
    const disk = await engine.imageDisk(signal);
    if (disk === undefined || usedPercent(disk) < retention.highPercent) return [];
    const present = new Set((await engine.listImages(signal)).map(({ id }) => id));
    const known: PulledImage[] = [];
    for (const key of await state.list(PREFIX)) {
      const image = decode(await state.get(key));
      if (image !== undefined && present.has(image.id)) known.push(image);
      else await state.delete(key);
    }
    const removed: string[] = [];
    for (const image of removable(known, inUse(), clock.now(), retention)) {
      const now = await engine.imageDisk(signal);
      if (now === undefined || usedPercent(now) <= retention.lowPercent) break;
      try {
        await engine.removeImage(image.id, signal);
        await state.delete(PREFIX + image.id);
        removed.push(image.id);
        log.info('removed an image to free disk', { image: image.reference });
      } catch (error) {
        // A container that isn't ours is made from it, or another name was given to it: then it stays.
        log.debug('an image is kept', { image: image.reference, detail: describeError(error) });
      }
    }
    return removed;
  }

  #write(image: PulledImage): void {
    this.#then(async () => await this.#parts.state.put(PREFIX + image.id, encode(image)));
  }

  #then(work: () => Promise<void>): void {
    this.#writing = this.#writing.then(work).catch((error: unknown) => {
      this.#parts.log.warn('the use of an image could not be noted', { detail: describeError(error) });
    });
  }
}

function encode(image: PulledImage): Uint8Array {
  return Buffer.from(JSON.stringify(image));
}

function decode(bytes: Uint8Array | undefined): PulledImage | undefined {
  if (bytes === undefined) return undefined;
  try {
    const parsed = JSON.parse(Buffer.from(bytes).toString()) as Partial<PulledImage> | null;
    return typeof parsed?.id === 'string' && typeof parsed.usedAtMs === 'number' ? (parsed as PulledImage) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
