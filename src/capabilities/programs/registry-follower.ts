// Follows what a registry says is to run on this host. Its last word is on disk and stands until it says something else: losing it, or
// getting no sense out of it, changes nothing.
import type { StateStore } from '../../core/capability.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError, type Reason, toLonglineError } from '../../core/errors.ts';
import { fromJson, toJson } from '../../core/exact-json.ts';
import type { Logger } from '../../core/logger.ts';
import { Progress } from '../../core/progress.ts';
import { LATE_MS, PASS_LIMIT_MS } from './pauses.ts';
import type { RefusedListing, Registry, RegistryAnswer } from './ports.ts';
import { decodeSpec, type ProgramSpecMessage } from './wire.ts';

const KEY = 'registry/answer';

/** What was said, as it is on disk: also what made no sense, since what runs of that stays. */
interface KeptAnswer {
  /** Base64 of longline.v1.ProgramSpec. */
  readonly specs: readonly string[];
  readonly refused: readonly {
    readonly item: string;
    readonly program: string | undefined;
    readonly reason: Reason;
    readonly message: string;
  }[];
}

/** What it is made from. */
export interface FollowerOptions {
  readonly registry: Registry;
  readonly state: StateStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly pollIntervalMs: number;
  /** What is wanted is another. */
  readonly changed: () => void;
}

/** One per registry. */
export class RegistryFollower {
  /** Whether polls go on. */
  readonly progress: Progress;
  readonly #options: FollowerOptions;
  #specs: readonly ProgramSpecMessage[] = [];
  #refused: readonly RefusedListing[] = [];
  #isKnown = true;
  #trouble: string | undefined;
  /** What was said and could not be kept. */
  #untaken: RegistryAnswer | undefined;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.progress = new Progress('registry', options.clock);
  }

  get specs(): readonly ProgramSpecMessage[] {
    return this.#specs;
  }

  /** What could not be made sense of. */
  get refused(): readonly RefusedListing[] {
    return this.#refused;
  }

  /** False while what it said last can't be read, and it has not said anything since. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /** Why the last poll gave nothing, for people; undefined if it did, or there was none yet. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Reads what was said last. If that can't be read it isn't known, which is no reason to take anything away. */
  async load(): Promise<void> {
    const { state, log } = this.#options;
    const bytes = await state.get(KEY);
    if (bytes === undefined) return;
    try {
      const { specs, refused } = fromJson(Buffer.from(bytes).toString()) as KeptAnswer;
      this.#specs = specs.map((spec) => decodeSpec(Buffer.from(spec, 'base64')));
      this.#refused = refused.map(({ item, program, reason, message }) => {
        return { item, program, error: new LonglineError(reason, message) };
      });
    } catch (error) {
      this.#isKnown = false;
      log.error('what the registry said last can not be read; it is asked again', { err: describeError(error) });
    }
  }

  /** Polls until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, pollIntervalMs } = this.#options;
    while (!signal.aborted) {
      this.progress.expect(PASS_LIMIT_MS, 'a poll');
      await this.#poll(signal);
      this.progress.expect(pollIntervalMs + LATE_MS, 'the next poll');
      await clock.sleep(pollIntervalMs, signal).catch(() => undefined);
    }
    this.progress.rest();
  }

  async #poll(signal: AbortSignal): Promise<void> {
    const { registry, log } = this.#options;
    try {
      const answer = await registry.poll(signal);
      // A registry says a thing once: what could not be kept then is taken now.
      const told = answer.kind === 'unchanged' ? this.#untaken : answer;
      if (told?.kind === 'programs') await this.#take(told);
      if (this.#trouble !== undefined) log.info('the registry answers again');
      this.#trouble = undefined;
    } catch (error) {
      if (signal.aborted) return;
      const trouble = describeError(error);
      if (trouble !== this.#trouble)
        log.warn('the registry gives no answer; what it said last stands', { err: trouble });
      this.#trouble = trouble;
    }
  }

  async #take(told: Extract<RegistryAnswer, { kind: 'programs' }>): Promise<void> {
    const { state, changed } = this.#options;
    this.#untaken = told;
    const specs: ProgramSpecMessage[] = [];
    const refused: RefusedListing[] = [...told.refused];
    for (const [place, bytes] of told.specs.entries()) {
      try {
        specs.push(decodeSpec(bytes));
      } catch (error) {
        refused.push({ item: `programs[${place}]`, error: toLonglineError(error) });
      }
    }
    const kept: KeptAnswer = {
      specs: told.specs.map((bytes) => Buffer.from(bytes).toString('base64')),
      refused: told.refused.map(({ item, program, error: { reason, message } }) => ({
        item,
        program,
        reason,
        message,
      })),
    };
    await state.put(KEY, Buffer.from(toJson(kept)));
    this.#isKnown = true;
    this.#untaken = undefined;
    this.#specs = specs;
    this.#refused = refused;
    changed();
  }
}
