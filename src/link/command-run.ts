// Carries out one command that is, or is about to be, durable in the journal: progress out, exactly one result out, whatever the executor does.
import { create } from '@bufbuild/protobuf';
import { type AgentMessage, AgentMessageSchema, ReceivedSchema } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../core/clock.ts';
import { LonglineError, toLonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { ATTRIBUTE, SPAN } from '../core/span-names.ts';
import { noTracer, type Span, type Tracer, traced } from '../core/tracer.ts';
import type { ReceivedCommand } from './journal-record.ts';
import type { CommandExecutor } from './ports.ts';
import { progressMessage, resultMessage } from './wire.ts';

/** What a run needs and whom it tells. */
export interface RunHost {
  readonly executor: CommandExecutor;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer?: Tracer | undefined;
  progress(commandId: string, message: AgentMessage): void;
}

/** A command under way. `cancel` may come at any time. */
export class CommandRun {
  readonly command: ReceivedCommand;
  readonly #host: RunHost;
  readonly #abort = new AbortController();
  readonly #left = Promise.withResolvers<undefined>();
  #iterator: AsyncIterator<unknown> | undefined;
  readonly #durable: Promise<void> | undefined;
  #settled: boolean;
  #lettingGo = false;
  #progressNumber = 0n;
  /** Latest progress, for a controller that connects later; undefined before the first. */
  latestProgress: AgentMessage | undefined;

  /** @param durable as CommandContext.durable; nothing is told before. */
  constructor(command: ReceivedCommand, host: RunHost, durable: Promise<void> | undefined) {
    this.command = command;
    this.#host = host;
    this.#durable = durable;
    durable?.then(
      () => {
        this.#settled = true;
      },
      () => this.abandon(),
    );
    this.#settled = durable === undefined;
  }

  /** True once the command is durable: then the controller may hear of it. */
  get durable(): boolean {
    return this.#settled;
  }

  cancel(reason: string): void {
    const message = reason === '' ? 'cancelled by the controller' : `cancelled: ${reason}`;
    this.#abort.abort(new LonglineError('cancelled', message));
  }

  /** Runs it to its end and gives the Result; undefined if it was left by `abandon`. */
  execute(resumed: boolean): Promise<AgentMessage | undefined> {
    const attributes = { [ATTRIBUTE.capability]: this.command.capability };
    const { tracer = noTracer } = this.#host;
    const consumed = traced(tracer, SPAN.run, { attributes }, (span) => this.#consume(resumed, span));
    return Promise.race([consumed, this.#left.promise]);
  }

  /** From now on an end without a result leaves the command to a later process; a result that still comes counts. */
  letGo(): void {
    this.#lettingGo = true;
  }

  /** Leaves the command to a later process: whatever the executor says from now on isn't its result. */
  abandon(): void {
    this.letGo();
    this.#left.resolve(undefined);
    this.#iterator?.return?.()?.catch((error: unknown) => {
      this.#host.log.warn('executor failed while it was left', { commandId: this.command.id, err: error });
    });
  }

  async #consume(resumed: boolean, span: Span): Promise<AgentMessage | undefined> {
    const { executor, log } = this.#host;
    const { id, capability, action, receivedAtMs, expiresAtMs, traceparent } = this.command;
    const command = { id, action, receivedAtMs, expiresAtMs, traceparent };
    try {
      const context = { signal: this.#abort.signal, resumed };
      const durable = this.#durable;
      const events = executor.execute(capability, command, durable === undefined ? context : { ...context, durable });
      const iterator = events[Symbol.asyncIterator]();
      this.#iterator = iterator;
      for (;;) {
        const next = await iterator.next();
        if (!this.#settled) await this.#durable;
        if (next.done) break;
        if (next.value.kind === 'progress') {
          this.#tellProgress(next.value.detail);
          continue;
        }
        await iterator.return?.();
        const { outcome, error } = next.value;
        if (outcome !== 'succeeded') span.fail(error ?? `the command ended as ${outcome}`, error?.reason ?? outcome);
        return this.#result(next.value.outcome, next.value.detail, next.value.error);
      }
      if (this.#lettingGo) return undefined;
      log.error('executor ended without a result', { commandId: id, capability });
      return this.#internalFailure(undefined);
    } catch (error) {
      if (this.#lettingGo) return undefined;
      log.error('executor failed', { commandId: id, capability, err: error });
      return this.#internalFailure(error);
    }
  }

  #tellProgress(detail: Uint8Array): void {
    const { id, capability } = this.command;
    this.#progressNumber += 1n;
    try {
      const message = progressMessage(id, this.#progressNumber, this.#host.clock.now(), capability, detail);
      this.latestProgress = message;
      this.#host.progress(id, message);
    } catch (error) {
      this.#host.log.error('progress of an executor cannot be sent', { commandId: id, capability, err: error });
    }
  }

  #result(outcome: Parameters<typeof resultMessage>[2], detail: Uint8Array, error: unknown): AgentMessage {
    return resultMessage(this.#replyHead(), this.command.capability, outcome, detail, error);
  }

  #internalFailure(cause: unknown): AgentMessage {
    const error =
      cause === undefined
        ? new LonglineError('internal', 'the capability ended without a result')
        : new LonglineError('internal', toLonglineError(cause).message, { cause });
    return resultMessage(this.#replyHead(), this.command.capability, 'failed', new Uint8Array(), error);
  }

  #replyHead(): { commandId: string; seq: bigint; nowMs: number } {
    return { commandId: this.command.id, seq: BigInt(this.command.seq), nowMs: this.#host.clock.now() };
  }
}

/** Says that a command is durable here. */
export function receivedMessage(command: { readonly id: string; readonly seq: string }): AgentMessage {
  const value = create(ReceivedSchema, { commandId: command.id, seq: BigInt(command.seq) });
  return create(AgentMessageSchema, { message: { case: 'received', value } });
}
