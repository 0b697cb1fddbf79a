// Moves a container's output into its log, piece by piece, for as long as the connection holds.
import type { OutputRecorder } from '../../core/output/output-recorder.ts';
import type { OutputPiece } from './ports.ts';

/** How the output of a container ended. */
export type PumpEnd =
  /** The output came to its end. */
  | { readonly kind: 'ended' }
  /** The connection broke, or we broke it. */
  | { readonly kind: 'broken'; readonly error: unknown };

/** Records until the output ends. Never rejects. */
export async function pumpOutput(output: AsyncIterable<OutputPiece>, recorder: OutputRecorder): Promise<PumpEnd> {
  try {
    await recordAll(output, recorder);
    return { kind: 'ended' };
  } catch (error) {
    return { kind: 'broken', error };
  }
}

/** Records all pieces; rejects with what their source throws. */
export async function recordAll(pieces: AsyncIterable<OutputPiece>, recorder: OutputRecorder): Promise<void> {
  for await (const piece of pieces) await recorder.record(piece);
}
