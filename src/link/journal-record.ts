// Form of the journal's records: a JSON head with its length before it, then bytes. Pure.
import { encodeRecord } from '../core/record-codec.ts';

/** Record types of the journal file. Numbers are on disk: never reuse one, nor 5, which was of applied desired states. */
export const JOURNAL_RECORD = {
  /** A command is durable. Bytes: its action. */
  received: 1,
  /** A command ended or was refused. Bytes: the AgentMessage that says so. */
  replied: 2,
  /** The controller stored the reply. */
  acknowledged: 3,
  /** A nonce that must not be used again. */
  nonce: 4,
  /** What the next Hello needs to know of the last Welcome. */
  linkMemory: 6,
  /** Highest command seq. */
  lastSeq: 7,
} as const;

/** A command that was taken and has not ended. */
export interface ReceivedCommand {
  readonly id: string;
  readonly seq: string;
  readonly capability: string;
  readonly action: Uint8Array;
  readonly receivedAtMs: number;
  readonly expiresAtMs: number;
  readonly traceparent: string;
  /** Hex; empty for none. */
  readonly nonce: string;
  readonly nonceExpiresAtMs: number;
}

/** The end of a command, or its refusal. */
export interface CommandReply {
  readonly id: string;
  readonly seq: string;
  /** Until when a repeat of the command must be recognised. */
  readonly expiresAtMs: number;
  /** Serialised AgentMessage with a Result or a Rejected; empty if it was forgotten. */
  readonly message: Uint8Array;
}

/** What the next Hello needs to know of the last Welcome. */
export interface LinkMemory {
  /** Hex. */
  readonly sessionToken: string;
  /** Hex. */
  readonly acknowledgedFactsDigest: string;
  readonly controllerId: string;
}

/** Encodes one record of the journal. */
export function encodeJournalRecord(type: number, head: object, bytes: Uint8Array = new Uint8Array()): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const body = Buffer.allocUnsafe(4 + json.length + bytes.length);
  body.writeUInt32LE(json.length, 0);
  json.copy(body, 4);
  body.set(bytes, 4 + json.length);
  return encodeRecord(type, body);
}

/** Decodes a record's body. The bytes are a copy. Throws if the body isn't one of ours. */
export function decodeJournalBody<T>(body: Uint8Array): { readonly head: T; readonly bytes: Uint8Array } {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const end = 4 + buffer.readUInt32LE(0);
  return { head: JSON.parse(buffer.toString('utf8', 4, end)) as T, bytes: Uint8Array.from(buffer.subarray(end)) };
}

/** Frame of a received command. */
export function receivedRecord(command: ReceivedCommand): Buffer {
  const { action, ...head } = command;
  return encodeJournalRecord(JOURNAL_RECORD.received, head, action);
}

/** Frame of a reply. */
export function repliedRecord(reply: CommandReply): Buffer {
  const { message, ...head } = reply;
  return encodeJournalRecord(JOURNAL_RECORD.replied, head, message);
}
