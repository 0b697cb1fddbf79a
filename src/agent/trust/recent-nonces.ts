// Nonces of commands on their way from admission to the journal, which remembers them from then on.

/** Longer than any command takes from admission to being durable. */
const KEPT_MS = 120_000;
const MAX_KEPT = 65_536;

/** Remembers for two minutes, or for the last 65,536 commands, which command used a nonce. */
export class RecentNonces {
  readonly #commands = new Map<string, { readonly commandId: string; readonly atMs: number }>();

  /** `nowMs` is monotonic time. */
  add(nonce: Uint8Array, commandId: string, nowMs: number): void {
    this.#prune(nowMs);
    this.#commands.set(keyOf(nonce), { commandId, atMs: nowMs });
  }

  /** The same command may come again, after a reconnect. */
  usedByOther(nonce: Uint8Array, commandId: string, nowMs: number): boolean {
    this.#prune(nowMs);
    const user = this.#commands.get(keyOf(nonce));
    return user !== undefined && user.commandId !== commandId;
  }

  #prune(nowMs: number): void {
    for (const [key, { atMs }] of this.#commands) {
      if (nowMs - atMs < KEPT_MS && this.#commands.size <= MAX_KEPT) return;
      this.#commands.delete(key);
    }
  }
}

function keyOf(nonce: Uint8Array): string {
  return Buffer.from(nonce.buffer, nonce.byteOffset, nonce.byteLength).toString('latin1');
}
