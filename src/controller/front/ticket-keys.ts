// Keys of TLS session tickets, kept over restarts so that agents resume their sessions with a new controller process, and
// changed now and then: who steals one can read recorded handshakes of its time only.
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../core/clock.ts';
import type { DataDirectory } from '../identity/data-directory.ts';

const FILE = 'tls-ticket-keys.json';
const KEY_BYTES = 48;
/** One key is used this long. Sessions older than that do a full handshake. */
export const TICKET_KEY_LIFETIME_MS = 7 * 86_400_000;

interface StoredKeys {
  readonly created_at_ms: number;
  readonly keys: string;
}

/** The ticket keys over time. */
export class TicketKeys {
  readonly #directory: DataDirectory;
  readonly #clock: Clock;

  constructor(directory: DataDirectory, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
  }

  /** The keys to use now: 48 bytes. Makes new ones when there are none or they are too old. */
  async current(): Promise<Buffer> {
    const stored = parse(await this.#directory.readPrivate(FILE));
    const ageMs = this.#clock.now() - (stored?.createdAtMs ?? 0);
    // A clock that was set back must not keep a key alive for ever.
    if (stored !== undefined && ageMs >= 0 && ageMs < TICKET_KEY_LIFETIME_MS) return stored.keys;
    const keys = randomBytes(KEY_BYTES);
    const content: StoredKeys = { created_at_ms: this.#clock.now(), keys: keys.toString('base64') };
    await this.#directory.writePrivate(FILE, JSON.stringify(content));
    return keys;
  }
}

/** Damaged content counts as none: the loss is a full handshake for each agent. */
function parse(content: Buffer | undefined): { readonly createdAtMs: number; readonly keys: Buffer } | undefined {
  if (content === undefined) return undefined;
  try {
    const { created_at_ms, keys } = JSON.parse(content.toString()) as Partial<StoredKeys>;
    const bytes = Buffer.from(String(keys), 'base64');
    return typeof created_at_ms === 'number' && bytes.length === KEY_BYTES
      ? { createdAtMs: created_at_ms, keys: bytes }
      : undefined;
  } catch {
    return undefined;
  }
}
