// What a journal holds, as a pure state machine: applying records in order gives the state; applying some of them twice
// changes nothing, because a command only ever moves forward (received, replied, acknowledged). No I/O.
import type { DecodedRecord } from '../core/record-codec.ts';
import {
  type CommandReply,
  decodeJournalBody,
  encodeJournalRecord,
  JOURNAL_RECORD,
  type LinkMemory,
  type ReceivedCommand,
  receivedRecord,
  repliedRecord,
} from './journal-record.ts';

/** A command as the journal knows it. */
export type JournalEntry =
  /** Durable, to be carried out or under way. */
  | { readonly phase: 'received'; readonly command: ReceivedCommand }
  /** Ended or refused; the reply is repeated until the controller has stored it. */
  | { readonly phase: 'replied'; readonly reply: CommandReply }
  /** The controller has stored the reply; kept until expiry so that a repeat is recognised. */
  | { readonly phase: 'acknowledged'; readonly reply: CommandReply };

/** Which command used a nonce, and how long that matters. */
export interface NonceUse {
  readonly id: string;
  readonly expiresAtMs: number;
}

/** Nonces and commands that are over are kept up to these numbers; then the oldest reply, or command, is forgotten. */
export const JOURNAL_LIMITS = { nonces: 262_144, acknowledgedReplies: 4096, acknowledged: 65_536 } as const;

const NO_MEMORY: LinkMemory = { sessionToken: '', acknowledgedFactsDigest: '', controllerId: '' };
const NO_BYTES = new Uint8Array();

/** In-memory state of a journal. */
export class JournalState {
  readonly received = new Map<string, ReceivedCommand>();
  readonly replied = new Map<string, CommandReply>();
  readonly acknowledged = new Map<string, CommandReply>();
  readonly nonces = new Map<string, NonceUse>();
  /** Commands whose record is still on its way to the disk and may yet be refused: no snapshot may hold them. */
  readonly unsettled = new Set<string>();
  linkMemory = NO_MEMORY;
  lastSeq = 0n;
  #repliedBytes = 0;
  /** Records that were whole but made no sense: written by a newer version, or by a bug. */
  unreadable = 0;

  /** Size of all replies that aren't acknowledged. */
  get repliedBytes(): number {
    return this.#repliedBytes;
  }

  find(id: string): JournalEntry | undefined {
    const command = this.received.get(id);
    if (command !== undefined) return { phase: 'received', command };
    const pending = this.replied.get(id);
    if (pending !== undefined) return { phase: 'replied', reply: pending };
    const over = this.acknowledged.get(id);
    return over === undefined ? undefined : { phase: 'acknowledged', reply: over };
  }

  receive(command: ReceivedCommand): void {
    this.#raiseSeq(command.seq);
    if (command.nonce !== '') {
      this.nonces.set(command.nonce, { id: command.id, expiresAtMs: command.nonceExpiresAtMs });
    }
    if (this.find(command.id) === undefined) this.received.set(command.id, command);
  }

  /** Undoes `receive` of a command that could not be written. */
  unreceive(command: ReceivedCommand): void {
    if (!this.received.delete(command.id)) return;
    if (this.nonces.get(command.nonce)?.id === command.id) this.nonces.delete(command.nonce);
  }

  reply(reply: CommandReply): void {
    this.#raiseSeq(reply.seq);
    this.received.delete(reply.id);
    if (this.acknowledged.has(reply.id)) return;
    this.#repliedBytes += reply.message.length - (this.replied.get(reply.id)?.message.length ?? 0);
    this.replied.set(reply.id, reply);
  }

  acknowledge(ids: readonly string[]): void {
    for (const id of ids) {
      const reply = this.replied.get(id) ?? this.#replyOfUnwritten(id);
      if (reply === undefined) continue;
      this.received.delete(id);
      if (this.replied.delete(id)) this.#repliedBytes -= reply.message.length;
      this.acknowledged.set(id, reply);
    }
    this.#forgetOldest();
  }

  apply(record: DecodedRecord): void {
    try {
      this.#apply(record);
    } catch {
      this.unreadable += 1;
    }
  }

  /** Drops what has expired and gives the records that make up the rest. */
  snapshot(nowMs: number): Buffer[] {
    for (const [nonce, { expiresAtMs }] of this.nonces) if (expiresAtMs <= nowMs) this.nonces.delete(nonce);
    for (const [id, { expiresAtMs }] of this.acknowledged) if (expiresAtMs <= nowMs) this.acknowledged.delete(id);
    const records = [
      encodeJournalRecord(JOURNAL_RECORD.lastSeq, { seq: String(this.lastSeq) }),
      encodeJournalRecord(JOURNAL_RECORD.linkMemory, this.linkMemory),
    ];
    for (const [nonce, fact] of this.nonces) {
      if (this.unsettled.has(fact.id)) continue;
      records.push(encodeJournalRecord(JOURNAL_RECORD.nonce, { nonce, ...fact }));
    }
    for (const command of this.received.values()) {
      if (!this.unsettled.has(command.id)) records.push(receivedRecord(command));
    }
    for (const reply of this.acknowledged.values()) records.push(repliedRecord(reply));
    if (this.acknowledged.size > 0) {
      records.push(encodeJournalRecord(JOURNAL_RECORD.acknowledged, { ids: [...this.acknowledged.keys()] }));
    }
    for (const reply of this.replied.values()) records.push(repliedRecord(reply));
    return records;
  }

  #apply({ type, body }: DecodedRecord): void {
    if (type === JOURNAL_RECORD.received) {
      const { head, bytes } = decodeJournalBody<Omit<ReceivedCommand, 'action'>>(body);
      this.receive({ ...head, action: bytes });
    } else if (type === JOURNAL_RECORD.replied) {
      const { head, bytes } = decodeJournalBody<Omit<CommandReply, 'message'>>(body);
      this.reply({ ...head, message: bytes });
    } else if (type === JOURNAL_RECORD.acknowledged) {
      this.acknowledge(decodeJournalBody<{ ids: string[] }>(body).head.ids);
    } else if (type === JOURNAL_RECORD.nonce) {
      const { nonce, ...use } = decodeJournalBody<NonceUse & { nonce: string }>(body).head;
      this.nonces.set(nonce, use);
    } else if (type === JOURNAL_RECORD.linkMemory) {
      this.linkMemory = decodeJournalBody<LinkMemory>(body).head;
    } else if (type === JOURNAL_RECORD.lastSeq) {
      this.#raiseSeq(decodeJournalBody<{ seq: string }>(body).head.seq);
    } else {
      this.unreadable += 1;
    }
  }

  /** An acknowledgement on disk without its reply: the controller has the reply, only this host's copy is gone. */
  #replyOfUnwritten(id: string): CommandReply | undefined {
    const command = this.received.get(id);
    return command && { id, seq: command.seq, expiresAtMs: command.expiresAtMs, message: NO_BYTES };
  }

  #forgetOldest(): void {
    while (this.acknowledged.size > JOURNAL_LIMITS.acknowledged) {
      this.acknowledged.delete(this.acknowledged.keys().next().value as string);
    }
    let excess = this.acknowledged.size - JOURNAL_LIMITS.acknowledgedReplies;
    for (const [id, reply] of this.acknowledged) {
      if (excess-- <= 0) break;
      if (reply.message.length > 0) this.acknowledged.set(id, { ...reply, message: NO_BYTES });
    }
  }

  #raiseSeq(seq: string): void {
    const value = BigInt(seq);
    if (value > this.lastSeq) this.lastSeq = value;
  }
}
