// The rollback of one program that somebody asked for and waits for. It is about the revision that ran when it was asked for, and no other.
import { LonglineError } from '../../core/errors.ts';
import type { ProgramRecord } from './record.ts';
import type { RollbackCause, RollbackRecord } from './rollback.ts';

interface Pending {
  readonly cause: RollbackCause;
  readonly number: number;
  readonly done: PromiseWithResolvers<RollbackRecord>;
}

/** One per program. */
export class RollbackRequests {
  readonly #program: string;
  #pending: Pending | undefined;

  constructor(program: string) {
    this.#program = program;
  }

  /**
   * Resolves once it is done. Throws `not_found` if nothing is loaded, `wrong_state` if it is another artifact or revision, or is gone
   * back from already.
   */
  ask(
    cause: RollbackCause,
    { artifact, revision }: { readonly artifact?: string | undefined; readonly revision?: number | undefined },
    { current, goal }: ProgramRecord,
  ): Promise<RollbackRecord> {
    const name = this.#program;
    if (current === undefined) throw new LonglineError('not_found', `name: nothing of program ${name} is loaded`);
    if (artifact !== undefined && artifact !== current.artifact) {
      const message = `artifact: program ${name} runs ${current.artifact}, and not ${artifact}`;
      throw new LonglineError('wrong_state', message);
    }
    if (revision !== undefined && revision !== current.number) throw this.#tooLate();
    if (this.#pending !== undefined || goal.kind === 'roll_back') {
      throw new LonglineError('wrong_state', `program ${name} is being rolled back already`);
    }
    this.#pending = { cause, number: current.number, done: Promise.withResolvers() };
    return this.#pending.done.promise;
  }

  /** What is asked for of this revision. */
  of(number: number | undefined): RollbackCause | undefined {
    return this.#pending?.number === number ? this.#pending?.cause : undefined;
  }

  /** It is done. */
  resolve(record: RollbackRecord): void {
    this.#pending?.done.resolve(record);
    this.#pending = undefined;
  }

  /** It can't be done, or not by this process: by default since it is too late for it. */
  reject(error: LonglineError = this.#tooLate()): void {
    this.#pending?.done.reject(error);
    this.#pending = undefined;
  }

  #tooLate(): LonglineError {
    return new LonglineError('wrong_state', `program ${this.#program} runs another revision by now, or none`);
  }
}
