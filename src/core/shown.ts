// Things of one kind of which the one that was shown last counts, until it is taken back: then again the one before it. Pure.

/** One per kind. */
export class Shown<T> {
  readonly #all: { readonly thing: T }[] = [];

  /** Shows it until what is returned is disposed; that may be done twice, and in any order. */
  show(thing: T): Disposable {
    const one = { thing };
    this.#all.push(one);
    return {
      [Symbol.dispose]: () => {
        const at = this.#all.indexOf(one);
        if (at >= 0) this.#all.splice(at, 1);
      },
    };
  }

  /** Undefined while nothing is shown. */
  get current(): T | undefined {
    return this.#all.at(-1)?.thing;
  }
}
