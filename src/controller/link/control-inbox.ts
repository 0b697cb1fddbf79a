// What an agent says on its control stream, put into the store. Nothing is acknowledged before it is durable. Kinds that
// this program doesn't know are ignored, as the contract asks.
import { toBinary } from '@bufbuild/protobuf';
import {
  type AgentMessage,
  type AuditCheckpoint,
  DesiredStateKind,
  type Progress,
  type Received,
  type Rejected,
  type Result,
  type StateReport,
  StateReportSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { type HostEvent, HostEventSchema } from '#gen/longline/v1/telemetry_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { SESSION_ID } from '../../core/ids.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { noTracer, traced } from '../../core/tracer.ts';
import { eventsTopic } from '../bus/topics.ts';
import { publishChanges, publishSession } from '../dispatch/sweeper.ts';
import { KEPT_ROLLBACKS, rollbackRecord } from '../programs/program-report.ts';
import type { CommandChange, ProgressUpdate, ResultUpdate } from '../store/command.ts';
import { storeFacts } from './greeting.ts';
import type { LinkDependencies } from './link-options.ts';
import { StateInbox } from './state-inbox.ts';
import { boundedEvent, checkpointRecord, progressUpdate, rejectionUpdate, resultUpdate } from './wire.ts';

/** Longest command id that is looked up. */
const MAX_ID = 64;

/** Commands whose latest step may wait for the store. */
const MAX_PROGRESS = 1024;

/** What the stream does with what came in. */
export interface InboxEffects {
  /** The command is durable on the agent, refused or ended: room for another. */
  confirmed(commandId: string): void;
  ended(commandId: string): void;
  acknowledgeResult(commandId: string): void;
  acknowledgeCheckpoint(chainId: string, sequence: bigint): void;
  /** The agent said what became of a desired state, and that is stored. */
  stateReported(report: StateReport): void;
}

/** Receiving side of one control stream. */
export class ControlInbox {
  readonly #needs: LinkDependencies;
  readonly #agentId: string;
  readonly #effects: InboxEffects;
  readonly #states: StateInbox;
  readonly #progress = new Map<string, ProgressUpdate>();
  #savingProgress: Promise<void> | undefined;

  constructor(needs: LinkDependencies, agentId: string, effects: InboxEffects) {
    this.#needs = needs;
    this.#agentId = agentId;
    this.#effects = effects;
    this.#states = new StateInbox(needs, agentId);
  }

  /** Handles a message. The promise, if any, settles once it is stored and rejects if it couldn't be. */
  take({ message }: AgentMessage): Promise<void> | undefined {
    switch (message.case) {
      case 'hello':
        throw new LonglineError('wrong_state', 'Hello came twice on one control stream');
      case 'received':
        return this.#received(message.value);
      case 'rejected':
        return this.#traced(message.value, async () => {
          await this.#finish(rejectionUpdate(message.value, this.#agentId, this.#needs.clock.now()));
        });
      case 'result':
        return this.#traced(message.value, async () => await this.#result(message.value));
      case 'progress':
        return this.#step(message.value);
      case 'stateReport':
        return this.#stateReport(message.value);
      case 'event':
        return this.#event(message.value);
      case 'facts':
        return storeFacts(this.#needs, this.#agentId, message.value, undefined);
      case 'auditCheckpoint':
        return this.#checkpoint(message.value);
      default:
        return undefined;
    }
  }

  /** The agent doesn't have these commands any more. */
  async lose(commandIds: readonly string[]): Promise<void> {
    const { store, clock, bus } = this.#needs;
    publishChanges(bus, await store.commands.lose(commandIds, this.#agentId, clock.now()));
  }

  async #received({ commandId }: Received): Promise<void> {
    if (commandId.length > MAX_ID) return;
    this.#effects.confirmed(commandId);
    const { store, clock, meter } = this.#needs;
    meter.received();
    this.#publish(await store.commands.received(commandId, this.#agentId, clock.now()));
  }

  /** Below what the agent traced of it, if it did. */
  async #traced({ commandId, traceparent: parent }: Rejected | Result, work: () => Promise<void>): Promise<void> {
    const tracer = parent === '' ? noTracer : (this.#needs.tracer ?? noTracer);
    const attributes = { [ATTRIBUTE.agentId]: this.#agentId, [ATTRIBUTE.commandId]: commandId };
    await traced(tracer, SPAN.storeResult, { parent, kind: 'consumer', attributes }, work);
  }

  async #result(result: Result): Promise<void> {
    const { store, clock } = this.#needs;
    const nowMs = clock.now();
    const { detail } = result;
    const told =
      detail.case === 'program' && detail.value.result.case === 'rollback' ? detail.value.result.value : undefined;
    const rollback = told && rollbackRecord(told, this.#agentId, nowMs);
    // First, so that after a crash between the two the result comes again.
    if (rollback !== undefined) await store.rollbacks.add([rollback], KEPT_ROLLBACKS);
    await this.#finish(resultUpdate(result, this.#agentId, nowMs));
  }

  /** Also acknowledges what is unknown here or was stored before, or the agent would repeat it for ever. */
  async #finish(update: ResultUpdate): Promise<void> {
    if (update.commandId.length > MAX_ID) return;
    this.#progress.delete(update.commandId);
    const change = await this.#needs.store.commands.result(update);
    // Not those that were stored before, which change nothing.
    if (change !== undefined) this.#needs.meter.ended(update.jobState);
    this.#effects.ended(update.commandId);
    this.#effects.acknowledgeResult(update.commandId);
    this.#publish(change);
  }

  /** While a step waits for the store, newer ones of the same command take its place. */
  #step(progress: Progress): Promise<void> | undefined {
    const update = progressUpdate(progress, this.#agentId);
    if (update === undefined || update.commandId.length > MAX_ID) return undefined;
    if (this.#progress.size >= MAX_PROGRESS && !this.#progress.has(update.commandId)) return undefined;
    this.#progress.set(update.commandId, update);
    this.#savingProgress ??= this.#saveProgress();
    return this.#savingProgress;
  }

  async #saveProgress(): Promise<void> {
    try {
      while (this.#progress.size > 0) {
        const updates = [...this.#progress.values()];
        this.#progress.clear();
        const changes = await Promise.all(updates.map((update) => this.#needs.store.commands.progress(update)));
        for (const change of changes) this.#publish(change);
      }
    } finally {
      this.#savingProgress = undefined;
    }
  }

  async #stateReport(report: StateReport): Promise<void> {
    const { store, clock, bus } = this.#needs;
    const { detail } = report;
    if (report.kind !== DesiredStateKind.SESSIONS) {
      await this.#states.take(report);
      this.#effects.stateReported(report);
      return;
    }
    if (detail.case === 'sessions') {
      const { sessions, full } = detail.value;
      const statuses = sessions.filter(({ sessionId }) => SESSION_ID.test(sessionId));
      const heard = { agentId: this.#agentId, statuses, full, nowMs: clock.now() };
      for (const sessionId of await store.sessions.report(heard)) publishSession(bus, sessionId);
      // They are kept one by one; of the report its digest is.
      report.detail = { case: undefined };
    }
    await store.stateReports.put({
      agentId: this.#agentId,
      kind: report.kind,
      generation: report.generation,
      report: toBinary(StateReportSchema, report),
      storedAtMs: clock.now(),
    });
  }

  async #event(told: HostEvent): Promise<void> {
    const { store, bus, clock, log, options } = this.#needs;
    const agentId = this.#agentId;
    const event = boundedEvent(told);
    const { type, message, capability, attributes } = event;
    log.info('agent event', { agentId, type, capability, text: message, attributes });
    const record = { agentId, event: toBinary(HostEventSchema, event), storedAtMs: clock.now() };
    await store.agentEvents.add(record, options.keptEvents);
    bus.publish(eventsTopic, { agentId });
  }

  async #checkpoint(checkpoint: AuditCheckpoint): Promise<void> {
    const { store, clock, log } = this.#needs;
    const record = checkpointRecord(checkpoint, this.#agentId, clock.now());
    if (record === undefined) {
      log.warn('agent sent a malformed audit checkpoint', {
        agentId: this.#agentId,
        chainId: checkpoint.chainId.slice(0, 64),
      });
      return;
    }
    const outcome = await store.auditCheckpoints.add(record);
    if (outcome === 'conflict') {
      const { chainId, sequence } = record;
      const head = Buffer.from(record.head).toString('hex');
      log.error('audit chain was rewritten: two heads for one sequence', {
        agentId: this.#agentId,
        chainId,
        sequence,
        head,
      });
    }
    this.#effects.acknowledgeCheckpoint(checkpoint.chainId, checkpoint.sequence);
  }

  #publish(change: CommandChange | undefined): void {
    if (change !== undefined) publishChanges(this.#needs.bus, [change]);
  }
}
