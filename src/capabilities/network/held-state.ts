// What a controller wants, kept on disk: read at the start, before anybody can be asked, and written before anything is done.
import type { StateStore } from '../../core/capability.ts';
import type { StateChange } from '../../core/desired-state.ts';
import { follow, type Held } from './desired.ts';
import { Ledger } from './ledger.ts';
import { decodeDesiredState, encodeDesiredState } from './wire.ts';

const HEADER_BYTES = 16;

/** One per capability. Calls must not overlap. */
export class HeldState {
  readonly #ledger: Ledger;
  #held: Held | undefined;

  constructor(state: StateStore) {
    this.#ledger = new Ledger(state, 'held/');
  }

  /** What is durable; undefined if nothing was ever asked for. */
  get held(): Held | undefined {
    return this.#held;
  }

  /** Reads what was written. Throws if it can't be made sense of: then it is unknown what is wanted. */
  async load(): Promise<void> {
    const { base, changes } = await this.#ledger.load();
    for (const record of base === undefined ? changes : [base, ...changes]) {
      const bytes = Buffer.from(record);
      const body = decodeDesiredState(bytes.subarray(HEADER_BYTES));
      this.#held = follow(this.#held, bytes.readBigUInt64BE(0), bytes.readBigUInt64BE(8), body);
    }
  }

  /** Takes one generation, durable when it resolves. Throws to refuse it; then what was held before still is. */
  async take({ generation, baseGeneration, body }: StateChange): Promise<Held> {
    const next = follow(this.#held, generation, baseGeneration, decodeDesiredState(body));
    const whole = () => framed(generation, 0n, encodeDesiredState({ networks: [...next.networks] }));
    if (next.generation !== this.#held?.generation) {
      if (baseGeneration === 0n) await this.#ledger.replace(whole());
      else await this.#ledger.append(framed(generation, baseGeneration, body), whole);
    }
    this.#held = next;
    return next;
  }
}

function framed(generation: bigint, baseGeneration: bigint, body: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeBigUInt64BE(generation, 0);
  header.writeBigUInt64BE(baseGeneration, 8);
  return Buffer.concat([header, body]);
}
