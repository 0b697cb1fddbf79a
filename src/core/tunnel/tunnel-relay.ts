// Joins two tunnels: what one end of each reads, the other sends. A reader that stops holds what is under way to it, no more.
import type { TunnelStream } from './tunnel-frame.ts';

/** What a relay tells while it runs. */
export interface RelayOptions {
  /** Bytes went from the session to the client. */
  readonly onOut?: (bytes: number) => void;
  /** Bytes went from the client to the session. */
  readonly onIn?: (bytes: number) => void;
}

/**
 * Moves everything both ways until the session's side has ended: the client may half-close, and still gets all that the
 * session sends. Rejects with the first failure. Both tunnels are left to their owners.
 */
export async function relayTunnel(session: TunnelStream, client: TunnelStream, options: RelayOptions): Promise<void> {
  const out = pass(session, client, options.onOut);
  const into = pass(client, session, options.onIn);
  await Promise.race([out, into.then(() => out)]);
}

async function pass(from: TunnelStream, to: TunnelStream, onBytes: ((bytes: number) => void) | undefined) {
  for await (const piece of from.pieces()) {
    if ('data' in piece) {
      onBytes?.(piece.data.length);
      await to.write(piece.data, piece.kind);
    } else await to.say(piece);
  }
  await to.end();
}
