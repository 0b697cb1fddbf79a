// Work on something that many share, one piece after the other.

/** A queue of work. A piece that fails costs the next ones nothing. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Does the work once all that came before is over; as it ends, so does the promise. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
