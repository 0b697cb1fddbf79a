// What travels through a tunnel, without the messages that carry it: the link, the public API and the command line each
// have their own, and all mean this.

/** Bytes that may be under way in one direction of a tunnel, sent and not yet taken by the reader. */
export const TUNNEL_WINDOW_BYTES = 256 * 1024;

/** Most bytes in one frame. */
export const TUNNEL_PIECE_BYTES = 64 * 1024;

/** Size of a terminal in characters. */
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** What a reader of a tunnel gets, in order. */
export type TunnelPiece =
  /** Bytes; from a session its standard output, or what its port sends. */
  | { readonly kind: 'data'; readonly data: Uint8Array }
  /** Bytes of a program's standard error; from a session only. */
  | { readonly kind: 'stderr'; readonly data: Uint8Array }
  /** The program ended, by a signal unless that is empty; from a session only, and the last one. */
  | { readonly kind: 'exit'; readonly code: number; readonly signal: string };

/** What goes past the bytes that wait, and also after their end: Ctrl-C must not queue behind what was typed. */
export type TunnelControl =
  /** The client's terminal has this size now; towards a session only. */
  | { readonly kind: 'resize'; readonly size: TerminalSize }
  /** Send this signal ("SIGTERM") to the program; towards a session only. */
  | { readonly kind: 'signal'; readonly signal: string };

/** What one end of a tunnel tells the other. */
export type TunnelFrame =
  | TunnelPiece
  | TunnelControl
  /** No more bytes in this direction; the other goes on. */
  | { readonly kind: 'half_close' }
  /** Bytes taken so far, in all: at most a window may be sent past that. */
  | { readonly kind: 'window'; readonly taken: number };

/** One end of a tunnel as its user sees it. */
export interface TunnelStream {
  /** Aborts with the reason, a LonglineError, when it failed: nothing goes in either direction any more. */
  readonly failed: AbortSignal;
  /** Aborts with the reason, a LonglineError, once nothing can be sent any more: it failed, or the other side ended all. */
  readonly gone: AbortSignal;
  /** What comes, in order, until the other side half-closes. Throws why the tunnel failed. One reader; leaving early ends the tunnel. */
  pieces(): AsyncIterable<TunnelPiece>;
  /** Sizes and signals as they come, until the tunnel is over or failed. One reader. */
  controls(): AsyncIterable<TunnelControl>;
  /** Sends bytes; resolves when all are on their way, which is no sooner than the reader's credit allows. One writer. */
  write(data: Uint8Array, stream?: 'data' | 'stderr'): Promise<void>;
  /** Sends what is no bytes, and so needs no credit. */
  say(what: TunnelControl | Exclude<TunnelPiece, { readonly data: Uint8Array }>): Promise<void>;
  /** No more bytes from here; those that come are still read. */
  end(): Promise<void>;
}
