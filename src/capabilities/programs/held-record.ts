// The record of one program as it is now: what was changed durably is on disk before anything is done about it, and what only the
// state in its life says is kept with the next durable change, since it is found out again from what is loaded.
import { advance, ascend, BORN, canHappen, isOver, isRunning, type Life, type LifeEvent } from './lifecycle.ts';
import type { ProgramOrder } from './order.ts';
import type { ProgramRecord } from './record.ts';
import type { ProgramServices } from './services.ts';

/** One per program. */
export class HeldRecord {
  readonly #services: Pick<ProgramServices, 'records' | 'clock' | 'support'>;
  readonly #changed: () => void;
  #record: ProgramRecord;
  #isStored: boolean;

  /** @param changed is called whenever the state in its life became another. */
  constructor(
    name: string,
    stored: ProgramRecord | undefined,
    services: Pick<ProgramServices, 'records' | 'clock' | 'support'>,
    changed: () => void,
  ) {
    this.#services = services;
    this.#changed = changed;
    this.#isStored = stored !== undefined;
    this.#record = stored ?? newRecord(name, services.support().bootId, services.clock.now());
  }

  get now(): ProgramRecord {
    return this.#record;
  }

  /** True if anything of it is on disk. */
  get isStored(): boolean {
    return this.#isStored;
  }

  /** True while a revision runs. */
  get isRunning(): boolean {
    return isRunning(this.#record.life);
  }

  /** The event, if it can happen now. */
  ifItCan(event: LifeEvent): readonly LifeEvent[] {
    return canHappen(this.#record.life, event) ? [event] : [];
  }

  /** Durable when it resolves; only then it counts. */
  async keep(change: Partial<ProgramRecord>, ...events: readonly LifeEvent[]): Promise<void> {
    const life = events.reduce(advance, this.#record.life);
    const next = { ...this.#record, ...change, ...this.#livesAs(life), bootId: this.#services.support().bootId };
    await this.#services.records.put(next);
    this.#isStored = true;
    this.#become(next);
  }

  /** Something happened to it that is found out again after a crash. */
  live(...events: readonly LifeEvent[]): void {
    this.#become({ ...this.#record, ...this.#livesAs(events.reduce(advance, this.#record.life)) });
  }

  /** It has come so far at least. */
  reached(target: 'fetched' | 'verified' | 'loaded' | 'attached'): void {
    this.#become({ ...this.#record, ...this.#livesAs(ascend(this.#record.life, target)) });
  }

  /** The same for something that makes sense only in some states. */
  liveIfItCan(event: LifeEvent): void {
    this.live(...this.ifItCan(event));
  }

  /** What is wanted of one that nothing was ever done for. */
  adopt(order: ProgramOrder): void {
    if (this.#isStored) return;
    this.#record = { ...this.#record, source: order.source, renewal: String(order.spec.renewal) };
  }

  /** Nothing is kept of it any more. Durable when it resolves. */
  async forget(): Promise<void> {
    if (this.#isStored) await this.#services.records.delete(this.#record.name);
    const { name, lastNumber } = this.#record;
    this.#isStored = false;
    const { support, clock } = this.#services;
    this.#become({ ...newRecord(name, support().bootId, clock.now()), lastNumber, life: this.#record.life });
    if (!isOver(this.#record.life)) this.liveIfItCan('gone');
  }

  #livesAs(life: Life): Pick<ProgramRecord, 'life' | 'lifeAtMs'> {
    const { life: before, lifeAtMs } = this.#record;
    return { life, lifeAtMs: sameLife(before, life) ? lifeAtMs : this.#services.clock.now() };
  }

  #become(next: ProgramRecord): void {
    const before = this.#record.life;
    this.#record = next;
    if (!sameLife(before, next.life)) this.#changed();
  }
}

function sameLife(one: Life, other: Life): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function newRecord(name: string, bootId: string, nowMs: number): ProgramRecord {
  const none = { current: undefined, previous: undefined, next: undefined, lifetime: undefined };
  return {
    ...{ name, source: 'local', bootId, sequence: 0, life: BORN, lifeAtMs: nowMs, lastNumber: 0 },
    ...{ goal: { kind: 'run' }, ...none, renewal: '0', over: undefined, lastRollback: undefined },
  };
}
