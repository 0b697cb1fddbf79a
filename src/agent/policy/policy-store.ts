// The policy in force on this host: from a file that only root may write, or the strict built-in one. A bad or loose file
// is refused: at start the agent doesn't start, at reload what was in force stays. Knows nothing of the link or of jobs.
import { LonglineError } from '../../core/errors.ts';
import { evaluatePolicy, type PolicyHost } from '../../core/policy/evaluation.ts';
import { DEFAULT_POLICY, type Decision, type Policy, type PolicyRequest } from '../../core/policy/policy.ts';
import { parsePolicy } from '../../core/policy/policy-file.ts';
import { readGuardedFile } from '../trust/guarded-file.ts';

/** Answers questions of policy. */
export class PolicyStore {
  readonly #path: string | undefined;
  readonly #host: PolicyHost;
  #policy: Policy = DEFAULT_POLICY;

  /** @param path policy file; undefined for the built-in policy. Call `load` before use. */
  constructor(path: string | undefined, host: PolicyHost) {
    this.#path = path;
    this.#host = host;
  }

  /** The policy in force. */
  get policy(): Policy {
    return this.#policy;
  }

  /** Files in force. */
  get files(): readonly string[] {
    return this.#path === undefined ? [] : [this.#path];
  }

  /** Reads the file anew. Throws and changes nothing if it is missing, loose or wrong. */
  async load(): Promise<void> {
    const putInForce = await this.read();
    putInForce();
  }

  /** As `load`, but changes nothing until the function that it gives is called. */
  async read(): Promise<() => void> {
    const policy = this.#path === undefined ? this.#policy : await readPolicyFile(this.#path);
    return () => {
      this.#policy = policy;
    };
  }

  /** Every rule looked at, in order. */
  evaluate(request: PolicyRequest): readonly Decision[] {
    return evaluatePolicy(this.#policy, request, this.#host);
  }
}

/** Reads and checks a policy file. Errors name the file, and every wrong value with path and line. */
export async function readPolicyFile(path: string): Promise<Policy> {
  const text = await readGuardedFile(path, { what: 'policy file', secret: false });
  try {
    return parsePolicy(text);
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    throw new LonglineError(error.reason, `policy file ${path}: ${error.message}`, { violations: error.violations });
  }
}
