// Keeps a record of leader election in a Lease: reads it, makes it, writes over the version that was read. A version that is
// another by now is an answer (409); whatever else keeps the answer from being known is an error that says what to do. A server
// that asks to be left alone is, for as long as it says.
import type { LonglineError } from '../../core/errors.ts';
import type { LeaseStore } from '../../core/lease-lock.ts';
import type { LeaseRecord } from '../../core/observed-lease.ts';
import type { ApiAnswer, JsonObject } from './api-answer.ts';
import { type ApiRequest, ApiServer, type ApiServerOptions } from './api-server.ts';
import { type FoundObject, type LeaseIdentity, nameOf, readLease, writeLease } from './lease-object.ts';

/** Which Lease on which server. */
export interface LeaseStoreOptions extends ApiServerOptions, LeaseIdentity {
  /** For a Lease that has a holder and no duration. */
  readonly ttlMs: number;
  /** Wall time in milliseconds, for people who look at the Lease. */
  readonly now: () => number;
  /** Milliseconds that pass; never goes back. */
  readonly elapsed: () => number;
}

/** The store. */
export class KubernetesLeaseStore implements LeaseStore<FoundObject> {
  readonly name: string;
  readonly #options: LeaseStoreOptions;
  readonly #server: ApiServer;
  readonly #collection: string;
  readonly #item: string;
  /** Until when the server asked to be left alone, and with what words. */
  #busy: { readonly untilMs: number; readonly error: LonglineError } | undefined;

  constructor(options: LeaseStoreOptions) {
    this.#options = options;
    this.#server = new ApiServer(options);
    this.name = nameOf(options);
    const [namespace, name] = [options.namespace, options.name].map(encodeURIComponent);
    this.#collection = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
    this.#item = `${this.#collection}/${name}`;
  }

  async read(signal: AbortSignal): Promise<FoundObject | undefined> {
    const answer = await this.#send({ method: 'GET', path: this.#item }, signal);
    if (answer.status === 404 && answer.about === 'leases') return undefined;
    if (answer.status !== 200) throw this.#failure(answer, 'get');
    return readLease(answer.object(), this.#options, this.#options.ttlMs);
  }

  async swap(over: FoundObject | undefined, record: LeaseRecord, signal: AbortSignal): Promise<boolean> {
    const body: JsonObject = writeLease(over, record, this.#options, this.#options.now());
    const answer =
      over === undefined
        ? await this.#send({ method: 'POST', path: this.#collection, body }, signal)
        : await this.#send({ method: 'PUT', path: this.#item, body }, signal);
    if (answer.status === 200 || answer.status === 201) return true;
    // Another wrote it, made it, or took it away between look and write.
    if (answer.status === 409 && answer.reason !== undefined) return false;
    if (answer.status === 404 && answer.about === 'leases' && over !== undefined) return false;
    throw this.#failure(answer, over === undefined ? 'create' : 'update');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server[Symbol.dispose]();
  }

  async #send(request: ApiRequest, signal: AbortSignal): Promise<ApiAnswer> {
    signal.throwIfAborted();
    const { elapsed } = this.#options;
    if (this.#busy !== undefined && elapsed() < this.#busy.untilMs) throw this.#busy.error;
    this.#busy = undefined;
    const answer = await this.#server.send(request, signal);
    const { retryAfterMs } = answer;
    if (retryAfterMs !== undefined && (answer.status === 429 || answer.status >= 500)) {
      const error = answer.refused('unavailable', `it asks to be left alone for ${retryAfterMs} ms`);
      this.#busy = { untilMs: elapsed() + retryAfterMs, error };
      throw error;
    }
    return answer;
  }

  #failure(answer: ApiAnswer, verb: string): LonglineError {
    const { status, reason } = answer;
    if (reason === undefined) return answer.nonsense(`a Status about ${this.name} would be right`);
    if (status === 401) return answer.refused('identity', 'it does not know the token in ha.kubernetes_token_file');
    if (status === 403) return answer.refused('policy', this.#missingRule(verb));
    if (status === 404) {
      const why = `there is no namespace ${this.#options.namespace}; make it, or name another in ha.kubernetes_namespace`;
      return answer.refused(
        'not_found',
        answer.about === 'namespaces' ? why : 'it has no Leases (coordination.k8s.io/v1)',
      );
    }
    if (status === 429 || status >= 500) return answer.refused('unavailable', 'it can not serve now');
    return answer.refused('invalid', `it does not take ${this.name}`);
  }

  #missingRule(verb: string): string {
    const { namespace } = this.#options;
    const rule = `verbs get, create, update on leases (coordination.k8s.io) in namespace ${namespace}`;
    return `the service account may not ${verb} ${this.name}; bind a Role to it with ${rule}`;
  }
}
