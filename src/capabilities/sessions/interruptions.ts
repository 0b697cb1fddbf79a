// Why an operation on a session is ended from outside.
import { LonglineError } from '../../core/errors.ts';

/** The agent stops: what is under way is left as it is, for a later process. */
export class LetGo extends LonglineError {
  constructor() {
    super('cancelled', 'the agent stops; what runs goes on');
  }
}

/** A stop ends what is under way; the stop clears away what is left. */
export class Preempted extends LonglineError {
  constructor(sessionId: string) {
    super('cancelled', `session ${sessionId} is being stopped`);
  }
}
