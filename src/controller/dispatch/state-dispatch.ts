// Gives one agent what is wanted of it over one control stream: compares what the agent says it holds with what is stored, and
// sends the difference, or the whole where there is no way from the one to the other. What is wanted waits in the store, not
// here: of several changes that come while a stream is slow only the last is sent. It knows nothing of gRPC. A failure of the
// store ends the stream through `failed`; the next stream begins by comparing again.
import { createHash } from 'node:crypto';
import { create, fromBinary } from '@bufbuild/protobuf';
import {
  type DesiredState,
  type DesiredStateRef,
  DesiredStateSchema,
  type StateReport,
} from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { type SignedPayload, SignedPayloadSchema } from '#gen/longline/v1/signature_pb.js';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { StatementSigner } from '../signer/statement-signer.ts';
import { STATE_BODIES } from '../states/state-bodies.ts';
import { bodyDigest, type StateBody } from '../states/state-body.ts';
import type { DesiredStateHead, DesiredStateRecord, DesiredStateRepository, StateId } from '../store/desired-state.ts';

/** How long a state that is under way may take to reach its agent, by both clocks. */
const PERMIT_LIFE_MS = 300_000;

/** Generations above can't be told apart from their neighbours everywhere. */
const LAST_GENERATION = BigInt(Number.MAX_SAFE_INTEGER) - 1n;

/** The stream's sending side. */
export interface StateSink {
  /** False while the stream's buffer is full: nothing may be sent until `StateDispatch.wake` is called. */
  readonly writable: boolean;
  sendDesiredState(state: DesiredState): void;
  failed(error: unknown): void;
}

/** What dispatch of states needs. */
export interface StateDispatchDependencies {
  readonly states: Pick<DesiredStateRepository, 'heads' | 'get' | 'raise' | 'undos'>;
  readonly signer: Pick<StatementSigner, 'sign'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What this stream knows of the agent and one kind. */
interface View {
  /** As the agent last said. */
  held: StateId | undefined;
  /** What was sent last on this stream. */
  sent: { readonly generation: bigint; readonly full: boolean } | undefined;
  /** How the agent answered that. */
  answer: Answer;
}

type Answer =
  /** Not yet, or it was taken: the next delta is to what was sent. */
  | 'none'
  /** It has to come as a full state. */
  | 'full_wanted'
  /** It can't be brought about there for now: sent again when the agent speaks of another state. */
  | 'not_now'
  /** It was refused for what it is: the next is made from what the agent holds. */
  | 'refused';

/** One stream's dispatch of states. Close it with the stream. */
export class StateDispatch {
  readonly #needs: StateDispatchDependencies;
  readonly #agentId: string;
  readonly #sink: StateSink;
  readonly #views = new Map<number, View>();
  #dirty = false;
  #pumping = false;
  #closed = false;

  constructor(needs: StateDispatchDependencies, agentId: string, sink: StateSink) {
    this.#needs = needs;
    this.#agentId = agentId;
    this.#sink = sink;
  }

  /** Begins with what Hello said. */
  start(refs: readonly DesiredStateRef[]): void {
    for (const { kind, generation, digest } of refs) this.#view(kind).held = { generation, digest };
    this.wake();
  }

  /** What is wanted changed, or the stream can be written again. Cheap; may be called any number of times. */
  wake(): void {
    this.#dirty = true;
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    void this.#pump();
  }

  /** The agent said what became of a state. */
  reported({ kind, generation, digest, error }: StateReport): void {
    const view = this.#view(kind);
    if (error !== undefined) {
      // What it says of others than the last is overtaken by that.
      if (view.sent?.generation !== generation) return;
      view.answer = answerOf(error.reason, view.sent.full);
      if (error.reason === ErrorReason.STALE) this.wake();
      return;
    }
    const known = view.held?.generation === generation && Buffer.compare(view.held.digest, digest) === 0;
    view.held = generation === 0n ? undefined : { generation, digest };
    if (view.answer === 'not_now') view.sent = undefined;
    if (!known || view.answer === 'not_now') this.wake();
    if (view.answer === 'not_now') view.answer = 'none';
  }

  /** Sends nothing any more. */
  close(): void {
    this.#closed = true;
  }

  #view(kind: number): View {
    let view = this.#views.get(kind);
    if (view === undefined) {
      view = { held: undefined, sent: undefined, answer: 'none' };
      // An agent may name any number; what it says of kinds that are never sent isn't kept.
      if (STATE_BODIES.has(kind)) this.#views.set(kind, view);
    }
    return view;
  }

  async #pump(): Promise<void> {
    try {
      while (this.#dirty && !this.#closed && this.#sink.writable) {
        this.#dirty = false;
        for (const head of await this.#needs.states.heads(this.#agentId)) await this.#bringUpTo(head);
      }
    } catch (error) {
      this.#sink.failed(error);
    } finally {
      this.#pumping = false;
    }
  }

  async #bringUpTo(head: DesiredStateHead): Promise<void> {
    const body = STATE_BODIES.get(head.kind);
    if (body === undefined) return;
    const view = this.#view(head.kind);
    const { held, sent } = view;
    if (held !== undefined && held.generation >= head.generation) {
      if (held.generation === head.generation && Buffer.compare(held.digest, head.digest) === 0) return;
      await this.#outdo(head.kind, held, view);
      return;
    }
    if (sent?.generation === head.generation && view.answer !== 'full_wanted') return;
    const record = await this.#needs.states.get(this.#agentId, head.kind);
    // Changed meanwhile: whoever did that woke this.
    if (record?.generation !== head.generation) return;
    const state = (await this.#delta(record, body, view)) ?? this.#message(record, body, 0n, record.body);
    if (this.#closed || !this.#sink.writable) {
      this.#dirty = true;
      return;
    }
    view.sent = { generation: state.generation, full: state.baseGeneration === 0n };
    view.answer = 'none';
    this.#sink.sendDesiredState(state);
  }

  /**
   * The agent has a state that this controller never wanted of it, has forgotten, or that a delta made otherwise there: it takes
   * only what is newer than that.
   */
  async #outdo(kind: number, held: StateId, { sent, answer }: View): Promise<void> {
    const { states, log } = this.#needs;
    const agentId = this.#agentId;
    const facts = { agentId, kind, generation: String(held.generation) };
    if (held.generation > LAST_GENERATION) log.error('agent holds a desired state that none can follow', facts);
    else if (sent?.full && sent.generation === held.generation && answer === 'none') {
      // Raised again and again it would change nothing.
      log.error('agent names the desired state that it was sent by another digest', facts);
    } else {
      await states.raise(agentId, kind, held);
      this.#dirty = true;
    }
  }

  /** The change from what the agent has, or will have; undefined if the full state is needed, or is no more to send. */
  async #delta(record: DesiredStateRecord, body: StateBody<unknown>, view: View): Promise<DesiredState | undefined> {
    if (view.answer === 'full_wanted') return undefined;
    const held = view.held;
    const base = view.answer === 'none' && view.sent !== undefined ? view.sent.generation : held?.generation;
    if (base === undefined || base >= record.generation) return undefined;
    const undos = await this.#needs.states.undos(this.#agentId, record.kind, base);
    if (undos === undefined) return undefined;
    const wanted = body.decode(record.body);
    const before = undos.reduce((state, undo) => body.apply(state, body.decode(undo)), wanted);
    if (base === held?.generation && Buffer.compare(bodyDigest(body.encode(before)), held.digest) !== 0)
      return undefined;
    const delta = body.encodeDelta(body.diff(before, wanted));
    return delta.length < record.body.length ? this.#message(record, body, base, delta) : undefined;
  }

  #message(
    record: DesiredStateRecord,
    body: StateBody<unknown>,
    baseGeneration: bigint,
    bytes: Uint8Array,
  ): DesiredState {
    const { kind, generation, traceparent } = record;
    const statement = this.#permit(body, generation, baseGeneration, bytes);
    const state = create(DesiredStateSchema, {
      kind,
      generation,
      baseGeneration,
      traceparent,
      ...(statement && { statement }),
    });
    state.body = body.field(body.decode(bytes));
    return state;
  }

  #permit(
    body: StateBody<unknown>,
    generation: bigint,
    baseGeneration: bigint,
    bytes: Uint8Array,
  ): SignedPayload | undefined {
    const bodySha256 = Uint8Array.from(createHash('sha256').update(bytes).digest());
    const action = body.permit({ generation, baseGeneration, bodySha256 });
    if (action === undefined) return undefined;
    const { signer, clock } = this.#needs;
    const issuedAtMs = clock.now();
    const times = { issuedAtMs, expiresAtMs: issuedAtMs + PERMIT_LIFE_MS };
    return fromBinary(SignedPayloadSchema, signer.sign({ action, agentIds: [this.#agentId], ...times }));
  }
}

function answerOf(reason: ErrorReason, full: boolean): Answer {
  if (reason === ErrorReason.STALE && !full) return 'full_wanted';
  return reason === ErrorReason.UNSUPPORTED || reason === ErrorReason.UNAVAILABLE ? 'not_now' : 'refused';
}
