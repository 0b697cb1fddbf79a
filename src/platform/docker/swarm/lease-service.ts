// Where replicas on several hosts of a Docker Swarm keep who leads: labels of a service of their own. An update names the version
// that it changes, which the swarm's managers agree on or refuse. It is not the service that the replicas run as: each
// renewal would take the place of what that rolls back to, and forget how far its update is. Must not know who may
// write what. It fails with `unavailable` where the swarm can't be asked, and then says what this node lacks.
import { LonglineError } from '../../../core/errors.ts';
import type { LeaseStore } from '../../../core/lease-lock.ts';
import type { FoundLease, LeaseRecord } from '../../../core/observed-lease.ts';
import type { EngineAddress } from '../engine-address.ts';
import { EngineClient, type EngineRequest, RefusedError } from '../engine-client.ts';
import { holdOf, type Labels, labelsOf, lockService, lockServiceName } from './lease-labels.ts';
import { whyNoManager } from './node-role.ts';

/** Which lock, and by which engine. */
export interface LeaseServiceOptions {
  readonly address: EngineAddress;
  readonly agentId: string;
  /** Name of the service, if not the one that is made of the agent's id. */
  readonly service?: string;
}

/** A hold in a version of a service. */
export interface FoundService extends FoundLease {
  readonly id: string;
  readonly index: number;
  readonly spec: RawService['Spec'];
}

interface RawService {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: Readonly<Record<string, unknown>> & { readonly Labels?: Labels | null };
}

/** Most time for one question; whoever asks mostly has less patience. */
const CALL_LIMIT_MS = 10_000;

/** There is no such service. */
const GONE = Symbol('gone');
/** Somebody else was faster. */
const OUTRUN = Symbol('outrun');

/** The service. Makes no connection before it is asked; dispose to end what is under way. */
export class LeaseService implements LeaseStore<FoundService> {
  readonly name: string;
  readonly #client: EngineClient;
  readonly #agentId: string;
  readonly #service: string;

  constructor({ address, agentId, service }: LeaseServiceOptions) {
    this.#client = new EngineClient(address, CALL_LIMIT_MS);
    this.#agentId = agentId;
    this.#service = service ?? lockServiceName(agentId);
    this.name = `Swarm service ${this.#service}`;
  }

  async read(signal: AbortSignal): Promise<FoundService | undefined> {
    const raw = await this.#ask<RawService>('GET', `/services/${this.#service}`, undefined, signal);
    if (raw === GONE) return undefined;
    if (raw === OUTRUN || !isService(raw)) {
      throw new LonglineError('unavailable', `${this.name}: the container engine gave no usable answer`);
    }
    const { ID: id, Spec: spec } = raw;
    const index = raw.Version.Index;
    const hold = holdOf(this.name, this.#agentId, spec.Labels ?? {});
    return { ...hold, id, index, spec, version: `${id}/${index}` };
  }

  async swap(over: FoundService | undefined, record: LeaseRecord, signal: AbortSignal): Promise<boolean> {
    const labels = labelsOf(this.#agentId, record);
    // Of two that find none, the engine lets one create it. What a found one has besides stays as whoever set it wants it.
    const [path, body] =
      over === undefined
        ? ['/services/create', lockService(this.#service, labels)]
        : [
            `/services/${over.id}/update?version=${over.index}`,
            { ...over.spec, Labels: { ...over.spec.Labels, ...labels } },
          ];
    const answer = await this.#ask('POST', path, body, signal);
    return answer !== OUTRUN && answer !== GONE;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client[Symbol.dispose]();
  }

  /** The answer; or that there is no such service, or that somebody else was faster. */
  async #ask<T>(
    method: EngineRequest['method'],
    path: string,
    body: object | undefined,
    signal: AbortSignal,
  ): Promise<T | typeof GONE | typeof OUTRUN | undefined> {
    const what = `${method === 'GET' ? 'read' : 'write'} ${this.name}`;
    const request = { method, path, what, limitMs: CALL_LIMIT_MS, ...(body === undefined ? {} : { body }) };
    signal.throwIfAborted();
    try {
      // Podman would say that there is no such service.
      if ((await this.#client.version(signal)).kind === 'podman') {
        const text = `ha.backend = swarm needs Docker; the engine at ${this.#client.where} is Podman`;
        throw new LonglineError('unsupported', text);
      }
      return await this.#client.json<T>(request, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RefusedError)) throw error;
      const { status, message } = error.refusal;
      if (status === 404 && path !== '/services/create') return GONE;
      if (status === 409 || /update out of sequence/i.test(message)) return OUTRUN;
      const why = status === 503 ? await whyNoManager(this.#client, signal) : undefined;
      throw new LonglineError('unavailable', why ?? error.message, { cause: error });
    }
  }
}

function isService(raw: Partial<RawService> | undefined): raw is RawService {
  return typeof raw?.ID === 'string' && Number.isSafeInteger(raw.Version?.Index) && typeof raw.Spec === 'object';
}
