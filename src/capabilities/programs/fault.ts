// A failure on the way of a program, with what it is about: becomes a problem of the program that the controller and people see.
import { LonglineError, type Reason, toLonglineError } from '../../core/errors.ts';

/** Where on its way a program failed. */
export type FaultStage = 'fetch' | 'verify' | 'room' | 'load' | 'verifier' | 'attach';

/** Failures that come of the host, and not of what was asked for: the same may go well later. */
const OF_THE_HOST: ReadonlySet<Reason> = new Set([
  'not_found',
  'already_exists',
  'unavailable',
  'late',
  'limit',
  'policy',
  'cancelled',
]);

/** A LonglineError that knows its field. */
export class ProgramFault extends LonglineError {
  readonly stage: FaultStage;
  /** "fetch", "signature", "parameters.limit", "attach[0]", … */
  readonly field: string;
  readonly verifierLog: string;

  constructor(stage: FaultStage, field: string, error: LonglineError, verifierLog = '') {
    super(error.reason, error.message, {
      retryable: error.retryable,
      violations: error.violations,
      ...(error.retryAfterMs !== undefined && { retryAfterMs: error.retryAfterMs }),
      ...(error.rule !== undefined && { rule: error.rule }),
      cause: error.cause ?? error,
    });
    this.stage = stage;
    this.field = field;
    this.verifierLog = verifierLog;
  }

  /** True if what was asked for is to blame, as it is found out in the kernel: then it is not tried again as it is. */
  get isItsOwn(): boolean {
    return this.stage === 'verifier' || (this.stage === 'attach' && !OF_THE_HOST.has(this.reason));
  }
}

/** Any thrown value as a fault; the first field that is named as wrong goes before `field`. */
export function faultOf(stage: FaultStage, field: string, thrown: unknown): ProgramFault {
  if (thrown instanceof ProgramFault) return thrown;
  const error = toLonglineError(thrown);
  return new ProgramFault(stage, error.violations[0]?.field ?? field, error);
}
