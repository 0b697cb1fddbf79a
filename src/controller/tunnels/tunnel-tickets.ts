// Tickets for browsers, which can't send an API token with a WebSocket: random, used once, good for a minute, and for one
// port of one session only. They are kept in memory, so a restart of the controller voids them.
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { ApiTokens, Caller } from '../identity/api-tokens.ts';
import { apiSecretOf, hashSecret } from '../identity/secrets.ts';
import type { TunnelLimits } from './tunnel-limits.ts';

/** A caller, and a way to ask again later whether its token still holds. */
export interface Bearer {
  readonly caller: Caller;
  /** Throws `identity` once the token was revoked or ended. */
  recheck(): Promise<void>;
}

/** A ticket as it is given out. */
export interface IssuedTicket {
  readonly ticket: string;
  readonly expiresAtMs: number;
}

interface Kept {
  readonly sessionId: string;
  readonly port: number;
  readonly caller: Caller;
  readonly tokenHash: Uint8Array;
  readonly expiresAtMs: number;
}

/** Gives out tickets and takes them back. */
export class TunnelTickets {
  readonly #tokens: ApiTokens;
  readonly #clock: Clock;
  readonly #limits: Pick<TunnelLimits, 'ticketMs' | 'maxTickets'>;
  /** By hash, in order of expiry, since all live equally long. */
  readonly #kept = new Map<string, Kept>();

  constructor(tokens: ApiTokens, clock: Clock, limits: Pick<TunnelLimits, 'ticketMs' | 'maxTickets'>) {
    this.#tokens = tokens;
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Makes a ticket for whom the authorization header names. Throws `limit` while too many wait. */
  issue(sessionId: string, port: number, caller: Caller, authorization: string | null): IssuedTicket {
    this.#sweep();
    const { maxTickets, ticketMs } = this.#limits;
    if (this.#kept.size >= maxTickets) {
      throw new LonglineError('limit', `${maxTickets} tickets wait to be used`, { retryAfterMs: ticketMs });
    }
    const ticket = randomBytes(32).toString('base64url');
    const expiresAtMs = this.#clock.now() + ticketMs;
    const tokenHash = hashSecret(apiSecretOf(authorization));
    this.#kept.set(key(ticket), { sessionId, port, caller, tokenHash, expiresAtMs });
    return { ticket, expiresAtMs };
  }

  /** Takes a ticket; it is void from then on, whatever comes of it. Throws `identity`. */
  async redeem(ticket: string, sessionId: string, port: number): Promise<Bearer> {
    const kept = this.#kept.get(key(ticket));
    this.#kept.delete(key(ticket));
    if (kept === undefined || kept.expiresAtMs <= this.#clock.now()) {
      throw new LonglineError('identity', 'ticket: unknown, used before, or too old; ask for a new one');
    }
    if (kept.sessionId !== sessionId || kept.port !== port) {
      throw new LonglineError('identity', 'ticket: was made for another session or port');
    }
    const recheck = async () => void (await this.#tokens.recheck(kept.tokenHash));
    await recheck();
    return { caller: kept.caller, recheck };
  }

  #sweep(): void {
    const nowMs = this.#clock.now();
    for (const [hash, { expiresAtMs }] of this.#kept) {
      if (expiresAtMs > nowMs) return;
      this.#kept.delete(hash);
    }
  }
}

/** Looked up by hash, so that how long a look-up takes tells nothing of the tickets there are. */
function key(ticket: string): string {
  return Buffer.from(hashSecret(ticket)).toString('base64');
}
