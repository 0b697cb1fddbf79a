// Lets calls for the same name run one after another, and those for others beside each other.

/** Locks by name; each lives as long as somebody holds or awaits it. */
export class NameLocks {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Runs `work` once all that was given before for this name has ended, well or not. */
  async run<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
    const before = this.#last.get(name);
    const mine = Promise.resolve(before).then(work, work);
    this.#last.set(name, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(name) === mine) this.#last.delete(name);
    }
  }
}
