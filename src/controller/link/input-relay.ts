// Standard input on its way to the executions of one agent. Bytes sent and not yet taken by the container are kept, at
// most 256 KiB an execution, so that they can be sent again on the agent's next stream. How much was taken is asked for
// with an empty Input whenever it isn't known. Knows nothing of gRPC or of who writes.
import { create } from '@bufbuild/protobuf';
import { type Input, type InputAck, InputSchema } from '#gen/longline/link/v1/link_pb.js';
import type { InputSignal, InputState } from '../bus/topics.ts';

/** Most bytes under way past what was taken, as InputAck documents it. */
const WINDOW_BYTES = 256 * 1024;

/** Executions remembered; the one used longest ago goes first. */
const MAX_EXECUTIONS = 1000;

/** The stream's sending side. */
export interface InputSink {
  readonly writable: boolean;
  sendInput(input: Input): void;
}

interface Flow {
  /** Undefined until the agent said it on this stream. */
  taken: number | undefined;
  /** End of what was accepted. */
  accepted: number;
  ended: boolean;
  closed: boolean;
  /** Bytes from `base` to `accepted`. */
  pieces: Uint8Array[];
  base: number;
  /** End of what was sent on this stream. */
  sent: number;
  endSent: boolean;
}

/** Input of all executions of one agent. Outlives its streams. */
export class InputRelay {
  readonly #flows = new Map<string, Flow>();
  readonly #publish: (executionId: string, state: InputState) => void;
  #sink: InputSink | undefined;

  constructor(publish: (executionId: string, state: InputState) => void) {
    this.#publish = publish;
  }

  /** True if nothing would be lost with it. */
  get idle(): boolean {
    return this.#sink === undefined && this.#flows.size === 0;
  }

  /** Goes on over another stream: asks anew what was taken. */
  attach(sink: InputSink): void {
    this.#sink = sink;
    for (const [executionId, flow] of this.#flows) {
      flow.taken = undefined;
      this.#probe(executionId);
    }
  }

  /** The stream ended, unless another took its place. */
  detach(sink: InputSink): void {
    if (this.#sink === sink) this.#sink = undefined;
  }

  /** Someone wants to write. What is accepted is published. */
  take({ executionId, offset, data, end }: InputSignal): void {
    const flow = this.#flow(executionId);
    if (flow.taken === undefined) return;
    const room = WINDOW_BYTES - (flow.accepted - flow.taken);
    const fresh = offset > flow.accepted ? undefined : data.subarray(Math.min(data.length, flow.accepted - offset));
    if (!flow.closed && !flow.ended && fresh !== undefined && fresh.length <= room) {
      if (fresh.length > 0) flow.pieces.push(Buffer.from(fresh));
      flow.accepted += fresh.length;
      flow.ended = end;
      this.#send(executionId, flow);
    } else if (!flow.closed && fresh !== undefined && fresh.length > room) return;
    this.#tell(executionId, flow);
  }

  /** The agent says how much was taken. */
  acknowledged({ logId, offset, closed }: InputAck): void {
    const flow = this.#flows.get(logId);
    if (flow === undefined) return;
    const taken = Number(offset);
    const first = flow.taken === undefined;
    flow.taken = Math.max(taken, flow.taken ?? 0);
    flow.closed ||= closed;
    if (first) {
      // Beyond what is kept here the agent may have taken bytes that another controller process sent, or lost some.
      if (taken < flow.base || taken > flow.accepted) this.#restart(flow, taken);
      flow.sent = taken;
      flow.endSent = false;
    }
    this.#dropTaken(flow);
    this.#send(logId, flow);
    this.#tell(logId, flow);
    if (flow.closed) this.#flows.delete(logId);
  }

  /** The stream can be written again. */
  roomAgain(): void {
    for (const [executionId, flow] of this.#flows) if (flow.taken !== undefined) this.#send(executionId, flow);
  }

  /** No more is wanted. */
  forget(executionId: string): void {
    this.#flows.delete(executionId);
  }

  #flow(executionId: string): Flow {
    let flow = this.#flows.get(executionId);
    if (flow !== undefined) {
      this.#flows.delete(executionId);
      this.#flows.set(executionId, flow);
      if (flow.taken === undefined) this.#probe(executionId);
      return flow;
    }
    const oldest = this.#flows.size >= MAX_EXECUTIONS ? this.#flows.keys().next().value : undefined;
    if (oldest !== undefined) this.#flows.delete(oldest);
    flow = { taken: undefined, accepted: 0, ended: false, closed: false, pieces: [], base: 0, sent: 0, endSent: false };
    this.#flows.set(executionId, flow);
    this.#probe(executionId);
    return flow;
  }

  #probe(executionId: string): void {
    if (this.#sink?.writable) this.#sink.sendInput(create(InputSchema, { logId: executionId }));
  }

  #send(executionId: string, flow: Flow): void {
    let at = flow.base;
    for (const [index, data] of flow.pieces.entries()) {
      const begins = at;
      at += data.length;
      if (at <= flow.sent) continue;
      if (!this.#sink?.writable) return;
      const end = flow.ended && index === flow.pieces.length - 1;
      this.#sink.sendInput(create(InputSchema, { logId: executionId, offset: BigInt(begins), data, end }));
      flow.sent = at;
      flow.endSent ||= end;
    }
    if (!flow.ended || flow.endSent || !this.#sink?.writable) return;
    flow.endSent = true;
    this.#sink.sendInput(create(InputSchema, { logId: executionId, offset: BigInt(flow.accepted), end: true }));
  }

  #restart(flow: Flow, taken: number): void {
    flow.pieces = [];
    flow.base = taken;
    flow.accepted = taken;
    flow.ended = false;
  }

  #dropTaken(flow: Flow): void {
    while (flow.pieces[0] !== undefined && flow.base + flow.pieces[0].length <= flow.taken!) {
      flow.base += flow.pieces.shift()!.length;
    }
  }

  #tell(executionId: string, { accepted, ended, closed }: Flow): void {
    this.#publish(executionId, { accepted, ended, closed });
  }
}
