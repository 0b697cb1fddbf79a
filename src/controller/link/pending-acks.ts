// What one control stream has still to acknowledge, as sets of ids: a slow agent costs no messages in memory.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ControllerMessageSchema } from '#gen/longline/link/v1/link_pb.js';

type Message = NonNullable<MessageInitShape<typeof ControllerMessageSchema>['message']>;

/** Acknowledgements that wait to be sent. */
export class PendingAcks {
  #results: string[] = [];
  readonly #checkpoints = new Map<string, bigint>();

  /** Results that wait. */
  get results(): number {
    return this.#results.length;
  }

  result(commandId: string): void {
    this.#results.push(commandId);
  }

  /** A later record of a chain covers the earlier ones. */
  checkpoint(chainId: string, sequence: bigint): void {
    if (sequence > (this.#checkpoints.get(chainId) ?? -1n)) this.#checkpoints.set(chainId, sequence);
  }

  /** Takes out what waits, as messages; stops where the reader stops. All results share one. */
  *take(): Generator<Message, void, undefined> {
    if (this.#results.length > 0) {
      const commandIds = this.#results;
      this.#results = [];
      yield { case: 'resultAck', value: { commandIds } };
    }
    for (const [chainId, sequence] of this.#checkpoints) {
      this.#checkpoints.delete(chainId);
      yield { case: 'auditCheckpointAck', value: { chainId, sequence } };
    }
  }
}
