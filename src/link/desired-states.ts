// Takes desired states from any session and hands them to what keeps them, one after the other within a kind: form →
// obstacle? → order → admission → nonce → durable with its keeper. Reports of what became of them go to the outbox, the latest
// of each kind, and again after a reconnect unless the controller holds it. It knows no bodies and no signatures. A refusal
// travels as a StateReport with an error; nothing that a controller sends makes it throw or grow.
import type { DesiredState, DesiredStateRef, StateReport } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../core/clock.ts';
import { checkSequence, type StateKind, type StateObservation, type StateRef } from '../core/desired-state.ts';
import { LonglineError, toLonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { ATTRIBUTE, SPAN } from '../core/span-names.ts';
import { noTracer, type Span, type SpanOptions, type Tracer, traced } from '../core/tracer.ts';
import type { Journal } from './journal.ts';
import type { Outbox } from './outbox.ts';
import type { ReceivedState, StateAdmission, StateHost } from './ports.ts';
import {
  checkForm,
  emptyReport,
  kindNumber,
  observedReport,
  onlyBody,
  refusedReport,
  reportDigest,
  stateKindOf,
  stateRef,
} from './state-wire.ts';
import { hex } from './wire.ts';

/** What it works with. */
export interface DesiredStatesOptions {
  /** Without these every desired state is refused. */
  readonly keeping: { readonly host: StateHost; readonly admission: StateAdmission } | undefined;
  readonly journal: Pick<Journal, 'nonceUsedByOther' | 'useNonce'>;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer?: Tracer | undefined;
  /** False once another replica may lead: states that come are left to it. */
  readonly mayAct?: (() => boolean) | undefined;
}

/** Deltas of one kind that may wait for the one before; a full state takes the place of all that wait. */
const MAX_WAITING = 64;
const MAX_WAITING_BYTES = 16 * 1024 * 1024;
/** Longest wait for a state that is being taken when the agent stops. */
const DISPOSE_LIMIT_MS = 5000;

/** States of one kind that wait for the one that is being taken. */
interface Lane {
  waiting: ReceivedState[];
  bytes: number;
  taking: Promise<void> | undefined;
}

/** One per link; outlives sessions. */
export class DesiredStates implements AsyncDisposable {
  readonly #options: DesiredStatesOptions;
  readonly #lanes = new Map<StateKind, Lane>();
  /** The latest report of each kind that is kept. */
  readonly #reports = new Map<StateKind, StateReport>();
  /** Kinds of which something was refused because they couldn't be had. */
  readonly #missed = new Set<StateKind>();
  readonly #closing = new AbortController();

  constructor(options: DesiredStatesOptions) {
    this.#options = options;
    options.keeping?.host.observe((kind, observation) => this.#observed(kind, observation));
  }

  /** Takes a desired state; everything that becomes of it goes to the outbox. `body` as in ReceivedMessage. */
  take(state: DesiredState, body: Uint8Array | undefined): void {
    if (this.#left()) return;
    const kind = stateKindOf(state);
    const { keeping } = this.#options;
    if (kind === undefined || keeping === undefined) {
      const message = `no capability of this agent applies desired state of kind ${state.kind}`;
      this.#refuse(state, new LonglineError('unsupported', message));
      return;
    }
    try {
      const obstacle = keeping.host.obstacle(kind);
      if (obstacle !== undefined) {
        this.#missed.add(kind);
        throw obstacle;
      }
      checkForm(kind, state);
      this.#enqueue({ kind, state, body: onlyBody(body) });
    } catch (error) {
      const span = (this.#options.tracer ?? noTracer).start(SPAN.state, spanOptions(kind, state));
      span.fail(error);
      span.run(() => {
        keeping.admission.refused({ kind, state, body: body ?? new Uint8Array() }, toLonglineError(error));
        this.#refuse(state, error);
      });
      span.end();
    }
  }

  /** What Hello says of the states held here. */
  refs(): DesiredStateRef[] {
    return this.#held().map(([kind, held]) => stateRef(kind, held, this.#reports.get(kind)));
  }

  /** A controller is there, and holds the reports that these refs name: puts the others into the outbox. */
  welcomed(known: readonly DesiredStateRef[]): void {
    for (const report of this.#reports.values()) {
      if (!holdsReport(known, report)) this.#options.outbox.putState(report);
    }
    for (const [kind, held] of this.#held()) this.#tellObstacle(kind, held);
  }

  /** What can be had on this host may have changed: a controller that was refused for that is told what is held. */
  reconsider(): void {
    const { keeping, outbox } = this.#options;
    for (const kind of this.#missed) {
      if (keeping === undefined || keeping.host.obstacle(kind) !== undefined) continue;
      this.#missed.delete(kind);
      // If there is no report yet of a state that is held, it follows by itself.
      if (keeping.host.held().has(kind)) this.#repeat(kind);
      else outbox.putState(emptyReport(kind));
    }
  }

  /** Leaves what waits to be sent again, and waits for what is being taken. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new LonglineError('cancelled', 'the agent stops'));
    const waiting = new AbortController();
    const limit = this.#options.clock.sleep(DISPOSE_LIMIT_MS, waiting.signal).catch(() => undefined);
    await Promise.race([Promise.allSettled([...this.#lanes.values()].map(({ taking }) => taking)), limit]);
    waiting.abort();
  }

  #held(): [StateKind, StateRef][] {
    return [...(this.#options.keeping?.host.held() ?? [])];
  }

  #enqueue(received: ReceivedState): void {
    const { kind, state, body } = received;
    const lane = this.#lanes.get(kind) ?? { waiting: [], bytes: 0, taking: undefined };
    this.#lanes.set(kind, lane);
    const full = state.baseGeneration === 0n;
    const overflow = lane.waiting.length >= MAX_WAITING || lane.bytes + body.length > MAX_WAITING_BYTES;
    if (full || overflow) {
      lane.waiting = [];
      lane.bytes = 0;
    }
    if (overflow && !full) {
      throw new LonglineError('stale', `${MAX_WAITING} deltas wait for an earlier state; send the full state`);
    }
    lane.waiting.push(received);
    lane.bytes += body.length;
    lane.taking ??= this.#drain(lane);
  }

  async #drain(lane: Lane): Promise<void> {
    for (let next = lane.waiting.shift(); next !== undefined; next = lane.waiting.shift()) {
      lane.bytes -= next.body.length;
      if (!this.#left()) await this.#traced(next);
    }
    lane.taking = undefined;
  }

  async #traced(received: ReceivedState): Promise<void> {
    const { tracer = noTracer } = this.#options;
    const options = spanOptions(received.kind, received.state);
    await traced(tracer, SPAN.state, options, (span) => this.#takeOne(received, span));
  }

  async #takeOne(received: ReceivedState, span: Span): Promise<void> {
    const { tracer = noTracer } = this.#options;
    const { host, admission } = this.#options.keeping!;
    const { kind, state, body } = received;
    const { generation, baseGeneration } = state;
    let recorded = false;
    try {
      const held = host.held().get(kind);
      checkSequence(held, generation, baseGeneration);
      if (baseGeneration > 0n && generation === held?.generation) return this.#repeat(kind);
      recorded = true;
      const admitted = await traced(tracer, SPAN.verify, {}, () =>
        admission.admit(received, (nonce) => this.#nonceSeen(nonce, received)),
      );
      recorded = false;
      await this.#useNonce(admitted, received);
      if (this.#left()) return;
      await host.apply(kind, { generation, baseGeneration, body }, { signal: this.#closing.signal });
      admission.taken(received);
      // Nothing changes, so nothing is observed.
      if (generation === held?.generation) this.#repeat(kind);
    } catch (error) {
      // Nobody is told of what was only interrupted: it comes again.
      if (this.#left()) return;
      span.fail(error);
      if (!recorded) admission.refused(received, toLonglineError(error));
      this.#refuse(state, error);
    }
  }

  /** Nothing is begun any more. */
  #left(): boolean {
    return this.#closing.signal.aborted || this.#options.mayAct?.() === false;
  }

  #nonceSeen(nonce: Uint8Array, received: ReceivedState): boolean {
    return this.#options.journal.nonceUsedByOther(hex(nonce), nonceOwner(received));
  }

  async #useNonce(
    { nonce, nonceExpiresAtMs }: { nonce: Uint8Array; nonceExpiresAtMs: number },
    received: ReceivedState,
  ) {
    if (nonce.length === 0) return;
    await this.#options.journal.useNonce(hex(nonce), nonceOwner(received), nonceExpiresAtMs);
  }

  #observed(kind: StateKind, observation: StateObservation): void {
    try {
      const report = observedReport(kind, observation);
      const before = this.#reports.get(kind);
      if (before !== undefined && Buffer.compare(reportDigest(before), reportDigest(report)) === 0) return;
      this.#reports.set(kind, report);
      this.#options.outbox.putState(report);
    } catch (error) {
      this.#options.log.error('a capability observed its state in a form that cannot be sent', { kind, err: error });
    }
  }

  #refuse({ kind, generation }: DesiredState, error: unknown): void {
    const { outbox, log } = this.#options;
    const { reason, message } = toLonglineError(error);
    const facts = { kind, generation: String(generation), reason, message };
    if (reason === 'internal')
      log.error('desired state refused because of a fault on this host', { ...facts, err: error });
    else log.warn('desired state refused', facts);
    outbox.putState(refusedReport(kind, generation, error));
    const name = stateKindOf({ kind });
    // A controller whose generations lag has to learn what is held.
    if (reason === 'stale' && name !== undefined) this.#repeat(name);
  }

  #repeat(kind: StateKind): void {
    const report = this.#reports.get(kind);
    if (report !== undefined) this.#options.outbox.putState(report);
  }

  /** Of a state that is held, but can't be brought about in this process. */
  #tellObstacle(kind: StateKind, { generation }: StateRef): void {
    const obstacle = this.#options.keeping?.host.obstacle(kind);
    if (obstacle !== undefined) this.#options.outbox.putState(refusedReport(kindNumber(kind), generation, obstacle));
  }
}

function spanOptions(kind: StateKind, { baseGeneration, generation, traceparent: parent }: DesiredState): SpanOptions {
  const attributes = {
    [ATTRIBUTE.stateKind]: kind,
    [ATTRIBUTE.generation]: Number(generation),
    [ATTRIBUTE.baseGeneration]: baseGeneration === 0n ? undefined : Number(baseGeneration),
  };
  return { parent, kind: 'consumer', attributes };
}

/** The same state may come again with the same statement, after a reconnect. */
function nonceOwner({ kind, state }: ReceivedState): string {
  return `state ${kind} ${state.generation} ${state.baseGeneration}`;
}

function holdsReport(known: readonly DesiredStateRef[], report: StateReport): boolean {
  const ref = known.find(({ kind, generation }) => kind === report.kind && generation === report.generation);
  return ref !== undefined && Buffer.compare(ref.reportDigest, reportDigest(report)) === 0;
}
