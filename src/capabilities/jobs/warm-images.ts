// What the engine last said of the images that are kept warm.
import type { Clock } from '../../core/clock.ts';
import type { ContainerEngine, ImageFacts } from './ports.ts';

const FRESH_MS = 10_000;

/** Facts by reference, asked for again before they are stale. */
export class WarmImages {
  readonly #engine: Pick<ContainerEngine, 'findImage'>;
  readonly #clock: Clock;
  readonly #known = new Map<string, { readonly facts: ImageFacts; readonly checkedAtMs: number }>();

  constructor(engine: Pick<ContainerEngine, 'findImage'>, clock: Clock) {
    this.#engine = engine;
    this.#clock = clock;
  }

  /** Facts that the engine gave in the last 10 s. */
  fresh(reference: string): ImageFacts | undefined {
    const known = this.#known.get(reference);
    if (known === undefined || this.#clock.monotonic() - known.checkedAtMs > FRESH_MS) return undefined;
    return known.facts;
  }

  /** A job resolved the reference to this image. */
  note(reference: string, facts: ImageFacts): void {
    if (this.#known.get(reference)?.facts.id === facts.id) return;
    this.#known.set(reference, { facts, checkedAtMs: this.#clock.monotonic() });
  }

  /** Asks the engine about all that will be stale soon. Gives and forgets those that are gone or another image now. */
  async refresh(signal: AbortSignal): Promise<readonly ImageFacts[]> {
    const gone: ImageFacts[] = [];
    for (const [reference, known] of this.#known) {
      if (this.#clock.monotonic() - known.checkedAtMs < FRESH_MS / 2) continue;
      const facts = await this.#engine.findImage(reference, signal).catch(() => undefined);
      if (facts !== undefined && facts.id === known.facts.id) {
        this.#known.set(reference, { facts, checkedAtMs: this.#clock.monotonic() });
        continue;
      }
      this.#known.delete(reference);
      gone.push(known.facts);
    }
    return gone;
  }
}
