// Joins two tunnels: what one end of each reads, the other sends. A reader that stops holds what is under way to it, no more.
import type { TunnelStream } from './tunnel-frame.ts';
import { unlessAborted } from './unless-aborted.ts';

/** What a relay tells while it runs. */
export interface RelayOptions {
  /** Bytes went from the session to the client. */
  readonly onOut?: (bytes: number) => void;
  /** Bytes went from the client to the session. */
  readonly onIn?: (bytes: number) => void;
}

/**
 * Moves everything both ways until both directions have ended, or the session's process has. Rejects with the first
 * failure. Both tunnels are left to their owners.
 */
export async function relayTunnel(session: TunnelStream, client: TunnelStream, options: RelayOptions): Promise<void> {
  const out = pass(session, client, options.onOut);
  const into = pass(client, session, options.onIn);
  const done = out.then(async (exited) => {
    if (!exited) await into;
  });
  // Ends by itself with the client, or with the relay's owner, who ends both.
  passControls(client, session).catch(() => undefined);
  const failing = into.then(() => done);
  await unlessAborted(session.failed, unlessAborted(client.failed, Promise.race([done, failing])));
}

async function passControls(from: TunnelStream, to: TunnelStream): Promise<void> {
  for await (const control of from.controls()) await to.say(control);
}

/** True if what was passed ended with an exit. */
async function pass(from: TunnelStream, to: TunnelStream, onBytes: ((bytes: number) => void) | undefined) {
  let exited = false;
  for await (const piece of from.pieces()) {
    if ('data' in piece) {
      onBytes?.(piece.data.length);
      await to.write(piece.data, piece.kind);
    } else {
      exited ||= piece.kind === 'exit';
      await to.say(piece);
    }
  }
  await to.end();
  return exited;
}
