// Spans of commands, from their receipt to the acknowledgement of what came of them. Holds those that go on, by command: as many as
// there are commands under way and replies that wait, which their owner bounds; none where nothing is traced. What goes on when
// its process ends is told as far as it came; what a killed process did not tell is lost, and the next one begins a span anew.
import type { Command, Rejected, Result } from '#gen/longline/link/v1/link_pb.js';
import { Outcome } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { ATTRIBUTE, SPAN } from '../core/span-names.ts';
import { noSpan, type Span, type Tracer, traced } from '../core/tracer.ts';
import type { ReceivedCommand } from './journal-record.ts';

/** What is known of a command from the start. */
type Beginning = Pick<Command | ReceivedCommand, 'id' | 'seq' | 'traceparent'>;

/** One per dispatcher. */
export class CommandTraces {
  readonly #tracer: Tracer;
  /** Commands under way. */
  readonly #commands = new Map<string, Span>();
  /** Replies that the controller has not acknowledged. */
  readonly #replies = new Map<string, Span>();

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  /** A command was received, or is gone on with. Ended by `replied`. */
  begin({ id, seq, traceparent: parent }: Beginning, resumed: boolean): Span {
    const attributes = {
      [ATTRIBUTE.commandId]: id,
      [ATTRIBUTE.commandSeq]: Number(seq),
      ...(resumed ? { [ATTRIBUTE.resumed]: true } : {}),
    };
    const span = this.#tracer.start(SPAN.command, { parent, kind: 'consumer', attributes });
    if (span !== noSpan) this.#commands.set(id, span);
    return span;
  }

  /** Does a step of the command that is current. */
  step<T>(name: string, work: () => Promise<T>): Promise<T> {
    return traced(this.#tracer, name, {}, work);
  }

  /** What came of it. Begins the span of the reply, which is named in it, and which `acknowledged` ends. */
  replying(message: Pick<Result | Rejected, 'commandId' | 'error' | 'traceparent' | '$typeName'>): void {
    const command = this.#commands.get(message.commandId);
    if (command === undefined) return;
    tellOutcome(command, message as Result | Rejected);
    const reply = command.run(() => this.#tracer.start(SPAN.result, { kind: 'producer' }));
    message.traceparent = reply.traceparent;
    this.#replies.get(message.commandId)?.end();
    this.#replies.set(message.commandId, reply);
  }

  /** The reply is durable. */
  replied(id: string): void {
    this.#commands.get(id)?.end();
    this.#commands.delete(id);
  }

  /** The controller has it. */
  acknowledged(ids: readonly string[]): void {
    if (this.#replies.size === 0) return;
    for (const id of ids) {
      this.#replies.get(id)?.end();
      this.#replies.delete(id);
    }
  }

  /** Ends what goes on as it is. */
  leave(): void {
    for (const spans of [this.#commands, this.#replies]) {
      for (const span of spans.values()) span.end();
      spans.clear();
    }
  }
}

function tellOutcome(span: Span, message: Result | Rejected): void {
  const outcome = message.$typeName === 'longline.link.v1.Result' ? Outcome[message.outcome].toLowerCase() : 'rejected';
  span.set({ [ATTRIBUTE.outcome]: outcome });
  if (outcome === 'succeeded') return;
  const { error } = message;
  if (error === undefined) span.fail(`the command ended as ${outcome}`, outcome);
  else span.fail(error.message, (ErrorReason[error.reason] ?? outcome).toLowerCase());
}
