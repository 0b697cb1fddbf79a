// The durable memory of commands on this host: received, replied, acknowledged; nonces; what the
// next Hello needs. A promise that resolves means the fact survives the loss of the host. It knows no transport and no
// meaning of commands. When the disk refuses a write, a receipt or a reply fails and is as if it had not been, while
// acknowledgements and what the next Hello needs stay in memory and are written with the next append that succeeds.
import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { LonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { type FolderOperations, hostFolders } from './folder-operations.ts';
import {
  type CommandReply,
  encodeJournalRecord,
  JOURNAL_RECORD,
  type LinkMemory,
  type ReceivedCommand,
  receivedRecord,
  repliedRecord,
} from './journal-record.ts';
import { JOURNAL_LIMITS, type JournalEntry, JournalState, type NonceUse } from './journal-state.ts';
import { type OpenFile, RecordFile, type RecordFileLoss } from './record-file.ts';
import { storageError } from './storage-error.ts';

/** What a journal is opened with. */
export interface JournalOptions {
  /** Folder that the journal has to itself; made if it is missing (0700). */
  readonly folder: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** A file smaller than this is not compacted. */
  readonly compactFromBytes?: number;
  readonly openFile?: OpenFile;
  readonly folders?: FolderOperations;
}

const COMPACT_FROM_BYTES = 1024 * 1024;

/** One per data folder. What is read from it about commands is on disk. The owner disposes it. */
export class Journal implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #state: JournalState;
  readonly #file: RecordFile;
  readonly #compactFromBytes: number;
  #sizeAfterCompaction: number;
  #acknowledged = 0;
  #compacting = false;
  /** Frames of facts that hold in memory but could not be written yet. */
  #backlog: Buffer[] = [];

  private constructor(options: JournalOptions, state: JournalState, file: RecordFile) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#state = state;
    this.#file = file;
    this.#compactFromBytes = options.compactFromBytes ?? COMPACT_FROM_BYTES;
    this.#sizeAfterCompaction = file.sizeBytes;
  }

  /** Opens or creates the journal; a bad tail is cut off, put aside and told in `loss`. */
  static async open(options: JournalOptions): Promise<Journal> {
    const folders = options.folders ?? hostFolders;
    await folders.make(options.folder).catch((error: unknown) => {
      throw storageError('create', options.folder, error);
    });
    const state = new JournalState();
    const path = join(options.folder, 'commands.journal');
    const file = await RecordFile.open(path, {
      onRecord: (record) => state.apply(record),
      folders,
      settled: true,
      ...(options.openFile && { openFile: options.openFile }),
    });
    if (file.loss !== undefined)
      options.log.error('journal tail was damaged; recovered to the last good record', { ...file.loss });
    if (state.unreadable > 0)
      options.log.warn('journal holds records that this version cannot read', { count: state.unreadable });
    return new Journal(options, state, file);
  }

  /** What opening had to give up; undefined if the file was whole. */
  get loss(): RecordFileLoss | undefined {
    return this.#file.loss;
  }

  /** Highest seq of a command that was taken or refused. */
  get lastSeq(): bigint {
    return this.#state.lastSeq;
  }

  get linkMemory(): LinkMemory {
    return this.#state.linkMemory;
  }

  /** True while facts wait in memory for a disk that takes them. */
  get hasBacklog(): boolean {
    return this.#backlog.length > 0;
  }

  find(id: string): JournalEntry | undefined {
    return this.#state.find(id);
  }

  /** Commands received and not ended, oldest first; without those that are still on their way to the disk. */
  unfinished(): ReceivedCommand[] {
    return [...this.#state.received.values()].filter((command) => !this.#state.unsettled.has(command.id));
  }

  /** Number of commands received and not ended, also those on their way to the disk. */
  get unfinishedCount(): number {
    return this.#state.received.size;
  }

  /** Replies that the controller hasn't acknowledged, oldest first. */
  pendingReplies(): CommandReply[] {
    return [...this.#state.replied.values()];
  }

  /** Bytes on disk. */
  get sizeBytes(): number {
    return this.#file.sizeBytes;
  }

  /** Replies that were acknowledged since the start. */
  get acknowledgedCount(): number {
    return this.#acknowledged;
  }

  get pendingReplyCount(): number {
    return this.#state.replied.size;
  }

  get pendingReplyBytes(): number {
    return this.#state.repliedBytes;
  }

  /**
   * Whether a nonce (hex) was used by a command other than `id`, or by one of this id that is forgotten: how long a command
   * is remembered is up to the controller, and a statement must not run again by coming under its old id.
   */
  nonceSeen(nonce: string, id: string): boolean {
    return this.nonceUsedByOther(nonce, id) || (this.#nonceUse(nonce) !== undefined && this.find(id) === undefined);
  }

  /** Whether a nonce (hex) was used by anything other than `id`, which may be no command. */
  nonceUsedByOther(nonce: string, id: string): boolean {
    const use = this.#nonceUse(nonce);
    return use !== undefined && use.id !== id;
  }

  /** Keeps a nonce of what is no command. If it rejects, the nonce is not used: for the reasons that `receive` gives. */
  async useNonce(nonce: string, id: string, expiresAtMs: number): Promise<void> {
    await this.#makeRoomForNonce();
    if (this.nonceUsedByOther(nonce, id)) throw replayed();
    const before = this.#state.nonces.get(nonce);
    this.#state.nonces.set(nonce, { id, expiresAtMs });
    try {
      await this.#append(encodeJournalRecord(JOURNAL_RECORD.nonce, { nonce, id, expiresAtMs }));
    } catch (error) {
      if (before === undefined) this.#state.nonces.delete(nonce);
      throw error;
    }
  }

  /**
   * Takes a command. If it rejects, the command is not taken and its nonce not used: `identity` if another command has
   * used it meanwhile, `limit` or `unavailable` if it can't be kept.
   */
  async receive(command: ReceivedCommand): Promise<void> {
    if (command.nonce !== '') await this.#makeRoomForNonce();
    // Checked in the same step as it is taken, so that of two commands that race for a nonce only one gets it.
    if (command.nonce !== '' && this.nonceSeen(command.nonce, command.id)) throw replayed();
    this.#state.receive(command);
    this.#state.unsettled.add(command.id);
    try {
      await this.#append(receivedRecord(command));
    } catch (error) {
      this.#state.unreceive(command);
      throw error;
    } finally {
      this.#state.unsettled.delete(command.id);
    }
  }

  /**
   * Keeps the end or refusal of a command. If it rejects, the command hasn't ended: a process that starts now would find it
   * unfinished and might carry it out, so nobody may be told otherwise.
   */
  async reply(reply: CommandReply): Promise<void> {
    await this.#append(repliedRecord(reply));
    this.#state.reply(reply);
  }

  /** The controller has stored these replies. Unknown ids are ignored. */
  async acknowledge(ids: readonly string[]): Promise<void> {
    const known = ids.filter((id) => this.#state.replied.has(id));
    if (known.length === 0) return;
    this.#state.acknowledge(known);
    this.#acknowledged += known.length;
    await this.#appendOrKeep(encodeJournalRecord(JOURNAL_RECORD.acknowledged, { ids: known }));
  }

  async putLinkMemory(memory: LinkMemory): Promise<void> {
    this.#state.linkMemory = memory;
    await this.#appendOrKeep(encodeJournalRecord(JOURNAL_RECORD.linkMemory, memory));
  }

  /** Why the last write failed; undefined if it didn't. */
  get failure(): string | undefined {
    return this.#file.failure?.message;
  }

  /** Tries again to write what the disk refused. */
  async writeBacklog(): Promise<void> {
    if (this.#backlog.length > 0) await this.#append();
  }

  /** Writes what waits and closes the file. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.writeBacklog().catch((error: unknown) =>
      this.#log.error('journal could not be written completely before closing', { err: error }),
    );
    await this.#file[Symbol.asyncDispose]();
  }

  #nonceUse(nonce: string): NonceUse | undefined {
    const use = this.#state.nonces.get(nonce);
    return use === undefined || use.expiresAtMs <= this.#clock.now() ? undefined : use;
  }

  async #makeRoomForNonce(): Promise<void> {
    if (this.#state.nonces.size >= JOURNAL_LIMITS.nonces) await this.#compact();
    if (this.#state.nonces.size < JOURNAL_LIMITS.nonces) return;
    const message = `${JOURNAL_LIMITS.nonces} unexpired nonces are remembered; wait or sign with shorter lives`;
    throw new LonglineError('limit', message);
  }

  async #append(...frames: Buffer[]): Promise<void> {
    const backlog = this.#backlog;
    this.#backlog = [];
    try {
      await this.#file.append([...backlog, ...frames]);
    } catch (error) {
      this.#backlog = [...backlog, ...this.#backlog];
      throw error;
    }
    this.#compactIfWorthIt();
  }

  async #appendOrKeep(frame: Buffer): Promise<void> {
    try {
      await this.#append(frame);
    } catch (error) {
      this.#backlog.push(frame);
      throw error;
    }
  }

  #compactIfWorthIt(): void {
    const worthIt = this.#file.sizeBytes > Math.max(this.#compactFromBytes, 2 * this.#sizeAfterCompaction);
    if (!worthIt || this.#compacting) return;
    this.#compacting = true;
    this.#compact()
      .catch((error: unknown) =>
        this.#log.warn('journal could not be compacted; it is tried again later', { err: error }),
      )
      .finally(() => {
        this.#compacting = false;
      });
  }

  async #compact(): Promise<void> {
    await this.#file.replace(() => this.#state.snapshot(this.#clock.now()));
    this.#sizeAfterCompaction = this.#file.sizeBytes;
  }
}

function replayed(): LonglineError {
  return new LonglineError('identity', 'the nonce was used by another command; sign every statement with a new one');
}
