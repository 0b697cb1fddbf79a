// The agent's audit log: what was asked, by whom, what was decided and how it ended. Append-only, chained by hashes, its
// head signed every so often for the controller to keep. Fails closed: what can't be recorded must not be done. Knows
// nothing of the link; signed heads go to a callback. Retention is the operator's: a log is moved away while the agent is
// stopped, and a new chain begins.
import { createHmac, hkdfSync, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { type AuditCheckpoint, signCheckpoint } from '../../core/audit/audit-checkpoint.ts';
import type { AuditEvent } from '../../core/audit/audit-record.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { SigningKey } from '../../core/signing/signing-key.ts';
import type { AuditRow, ChainHead, CheckpointRow } from '../../platform/sqlite/audit-rows.ts';
import { AuditStore } from '../../platform/sqlite/audit-store.ts';
import { openAuditKey } from './audit-key.ts';

/** Names in the agent's data folder. */
export const AUDIT_FILE = 'audit.db';
export const AUDIT_KEY_FILE = 'audit.key';

/** What is recorded. Texts that don't apply are left out. */
export interface AuditEntry {
  readonly event: AuditEvent;
  readonly commandId?: string;
  readonly controllerId?: string;
  readonly keyId?: string;
  readonly capability?: string;
  readonly outcome?: string;
  readonly rule?: string;
  /** Becomes JSON. Must hold no secret. */
  readonly summary?: Readonly<Record<string, unknown>>;
}

/** How the log is opened. */
export interface AuditLogOptions {
  readonly dataDir: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Hears of every new signed head, in order. Must not throw. */
  readonly onCheckpoint: (checkpoint: AuditCheckpoint) => void;
  /** A head is signed after this many records, and this long after the last if there are new ones. */
  readonly checkpointRecords?: number;
  readonly checkpointIntervalMs?: number;
}

const LONGEST_TEXT = 256;
const LONGEST_SUMMARY = 65_536;
/** Most checkpoints offered again after a reconnect; the newest cover the older. */
const MAX_OFFERED = 100;

/** An open audit log. Dispose to flush, sign the last head and close. */
export class AuditLog implements AsyncDisposable {
  readonly #options: AuditLogOptions;
  readonly #store: AuditStore;
  readonly #key: SigningKey;
  readonly #fingerprintKey: Uint8Array;
  readonly #stop = new AbortController();
  #signedSequence: number;
  #signing: Promise<void> = Promise.resolve();
  #disposed: Promise<void> | undefined;
  #failure: string | undefined;

  private constructor(options: AuditLogOptions, store: AuditStore, key: SigningKey, signedSequence: number) {
    this.#options = options;
    this.#store = store;
    this.#key = key;
    this.#signedSequence = signedSequence;
    this.#fingerprintKey = new Uint8Array(hkdfSync('sha256', key.secret, '', 'longline-audit-fingerprint-v1', 32));
  }

  /** Opens the log in the data folder, making log and key if neither exists. Throws `unavailable` with the mend. */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    const path = join(options.dataDir, AUDIT_FILE);
    const key = await openAuditKey(join(options.dataDir, AUDIT_KEY_FILE), path);
    const store = await AuditStore.open({ path, newChainId: randomUUID(), publicKey: key.publicKey! });
    try {
      const log = new AuditLog(options, store, key, await store.lastCheckpoint());
      void log.#signPeriodically();
      return log;
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Chain id, last durable sequence and its hash. */
  get head(): ChainHead {
    return this.#store.head;
  }

  /** Why the last records were not taken, as long as none were since. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Records entries in order, in one commit. They are durable when it resolves. Throws `limit` or `unavailable`. */
  async append(...entries: readonly AuditEntry[]): Promise<void> {
    const timeMs = this.#options.clock.now();
    const head = await this.#store.append(entries.map((entry) => auditRow(entry, timeMs))).catch((error: unknown) => {
      this.#failure = describeError(error);
      throw error;
    });
    this.#failure = undefined;
    if (head.sequence - this.#signedSequence >= (this.#options.checkpointRecords ?? 1000)) void this.checkpoint();
  }

  /** Like append, for what must not wait for the disk or fail for it: a failure is logged. Order is kept. */
  note(...entries: readonly AuditEntry[]): void {
    this.append(...entries).catch((error: unknown) => {
      const events = entries.map((entry) => entry.event);
      this.#options.log.error('audit records were lost', { events, err: describeError(error) });
    });
  }

  /** Stands for a value that must not be stored: equal values have equal fingerprints; only the audit key can test one. */
  fingerprint(value: Uint8Array | string): string {
    return `hmac-sha256:${createHmac('sha256', this.#fingerprintKey).update(value).digest('hex')}`;
  }

  /** Signs and stores the head if there are new records, and hands it to the callback. A failure is logged. */
  checkpoint(): Promise<void> {
    this.#signing = this.#signing.then(async () => {
      const { chainId, sequence, hash } = this.#store.head;
      if (sequence <= this.#signedSequence) return;
      const timeMs = this.#options.clock.now();
      const checkpoint = signCheckpoint(this.#key, { chainId, sequence, head: hash, timeMs });
      try {
        await this.#store.addCheckpoint(checkpointRow(checkpoint));
        this.#signedSequence = sequence;
        this.#options.onCheckpoint(checkpoint);
      } catch (error) {
        this.#options.log.error('an audit checkpoint could not be stored', { sequence, err: describeError(error) });
      }
    });
    return this.#signing;
  }

  /** The newest signed heads that the controller hasn't acknowledged, oldest first: to be sent after a connect. */
  async unacknowledged(): Promise<readonly AuditCheckpoint[]> {
    const rows = await this.#store.unacknowledged(MAX_OFFERED);
    const { chainId } = this.#store.head;
    return rows.map((row) => ({ ...row, chainId, keyId: this.#key.keyId, publicKey: this.#key.publicKey! }));
  }

  /** The controller holds checkpoints up to `sequence`. One of another chain is ignored. */
  async acknowledge(chainId: string, sequence: number): Promise<void> {
    if (chainId === this.#store.head.chainId) await this.#store.acknowledge(sequence);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#close();
    await this.#disposed;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    await this.checkpoint();
    await this.#store[Symbol.asyncDispose]();
  }

  async #signPeriodically(): Promise<void> {
    const { signal } = this.#stop;
    const { clock, checkpointIntervalMs = 60_000 } = this.#options;
    while (!signal.aborted) {
      // The only way the wait can fail is the abort, which the loop sees.
      await clock.sleep(checkpointIntervalMs, signal).catch(() => undefined);
      if (!signal.aborted) await this.checkpoint();
    }
  }
}

function auditRow(entry: AuditEntry, timeMs: number): AuditRow {
  const summary = JSON.stringify(entry.summary ?? {});
  return [
    Math.trunc(timeMs),
    entry.event,
    plain(entry.commandId),
    plain(entry.controllerId),
    plain(entry.keyId),
    plain(entry.capability),
    plain(entry.outcome),
    plain(entry.rule),
    // Whoever makes a summary bounds its parts; this holds when one didn't.
    summary.length <= LONGEST_SUMMARY ? summary : JSON.stringify({ omitted_bytes: Buffer.byteLength(summary) }),
  ];
}

/** Bounded, well-formed and without control characters, whatever a peer has put into an id. */
function plain(text = ''): string {
  return text
    .slice(0, LONGEST_TEXT)
    .toWellFormed()
    .replaceAll(/\p{Cc}/gu, '\ufffd');
}

function checkpointRow({ sequence, timeMs, head, payload, signature }: AuditCheckpoint): CheckpointRow {
  return { sequence, timeMs, head, payload, signature };
}
