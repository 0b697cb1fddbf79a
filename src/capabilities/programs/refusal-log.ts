// Says in the log of the host what can't be had of what the host itself or a registry asks for: the controller is told of its own part,
// and nobody would hear of the rest. Once each, until it is asked for differently.
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { RefusedOrder } from './arrangement.ts';
import type { ArtifactOrigin } from './ports.ts';

/** One per capability. */
export class RefusalLog {
  #told: ReadonlySet<string> = new Set();

  /** All that is refused now. */
  note(refused: readonly RefusedOrder[], log: Logger): void {
    const told = new Set<string>();
    for (const { source, item, program, error } of refused) {
      if (source === 'controller') continue;
      const err = describeError(error);
      const key = `${source} ${item} ${err}`;
      told.add(key);
      if (this.#told.has(key)) continue;
      const facts = { source, item, ...(program !== undefined && { program }), err };
      log.warn('a program that is asked for can not be had; what runs of it stays as it is', facts);
    }
    this.#told = told;
  }
}

/** True if it is a program of this name and source that was refused. */
export function isAbout({ item, program, source }: RefusedOrder, name: string, of: ArtifactOrigin): boolean {
  return source === of && (program ?? item) === name;
}
