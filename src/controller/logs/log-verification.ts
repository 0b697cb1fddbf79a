// Whether a log is what its sender says it is: lengths, gaps and SHA-256 per stream. Pure but for the hashing.
import { createHash, type Hash } from 'node:crypto';
import type { LogClose } from '#gen/longline/v1/log_pb.js';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import type { LogExtents } from './log-state.ts';
import type { LogPart } from './log-store.ts';

/** Running SHA-256 per stream over the bytes that were kept. */
export class StreamDigests {
  readonly #hashes = new Map<string, Hash>();

  take(parts: readonly LogPart[]): void {
    for (const part of parts) {
      if (part.case !== 'chunk') continue;
      let hash = this.#hashes.get(part.value.stream);
      if (hash === undefined) {
        hash = createHash('sha256');
        this.#hashes.set(part.value.stream, hash);
      }
      hash.update(part.value.data);
    }
  }

  /** Digest so far; more may follow. */
  of(stream: string): Buffer {
    return (this.#hashes.get(stream)?.copy() ?? createHash('sha256')).digest();
  }
}

/** Throws `invalid` with everything that disagrees. */
export function checkClose(close: LogClose, extents: LogExtents, digests: StreamDigests): void {
  const violations: FieldViolation[] = [];
  const wrong = (stream: string, what: string, said: string, stored: string): void => {
    if (said === stored) return;
    violations.push({ field: `close.streams[${stream}].${what}`, description: `is ${said}, but ${stored} is stored` });
  };
  for (const { stream, length, gapBytes, sha256 } of close.streams) {
    const extent = extents.get(stream) ?? { length: 0, gapBytes: 0 };
    wrong(stream, 'length', length.toString(), extent.length.toString());
    wrong(stream, 'gap_bytes', gapBytes.toString(), extent.gapBytes.toString());
    wrong(stream, 'sha256', Buffer.from(sha256).toString('hex'), digests.of(stream).toString('hex'));
  }
  const named = new Set(close.streams.map((end) => end.stream));
  for (const [stream, { length }] of extents) {
    if (named.has(stream)) continue;
    violations.push({
      field: 'close.streams',
      description: `doesn't name stream ${stream}, of which ${length} bytes are stored`,
    });
  }
  if (violations.length > 0) throw invalid(violations);
}
