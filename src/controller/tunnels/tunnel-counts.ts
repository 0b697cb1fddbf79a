// Counts tunnels by agent, session and caller, so that none of them takes what belongs to all.
import { LonglineError } from '../../core/errors.ts';
import type { TunnelLimits } from './tunnel-limits.ts';

/** Tunnels that are open or being opened. */
export class TunnelCounts {
  readonly #limits: Pick<TunnelLimits, 'perAgent' | 'perSession' | 'perCaller'>;
  readonly #counts = new Map<string, number>();

  constructor(limits: Pick<TunnelLimits, 'perAgent' | 'perSession' | 'perCaller'>) {
    this.#limits = limits;
  }

  /** Takes a place until disposed. Throws `limit` that names what is full. */
  enter(session: { readonly id: string; readonly agentId: string }, callerId: string): Disposable {
    const { perAgent, perSession, perCaller } = this.#limits;
    const places = [
      { key: `agent ${session.agentId}`, most: perAgent },
      { key: `session ${session.id}`, most: perSession },
      { key: `caller ${callerId}`, most: perCaller },
    ];
    const full = places.find(({ key, most }) => (this.#counts.get(key) ?? 0) >= most);
    if (full !== undefined) {
      const name = full.key.startsWith('caller ') ? 'this API token' : full.key;
      throw new LonglineError('limit', `${full.most} tunnels are open for ${name}, which is the most; close some`);
    }
    for (const { key } of places) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    let left = false;
    return {
      [Symbol.dispose]: () => {
        if (left) return;
        left = true;
        for (const { key } of places) this.#leave(key);
      },
    };
  }

  #leave(key: string): void {
    const count = (this.#counts.get(key) ?? 1) - 1;
    if (count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
  }
}
