// Our demultiplexer beside docker-modem's, on the same bytes in the same chunks: 64 KiB, as a socket delivers them.
import { PassThrough, Writable } from 'node:stream';
import Docker from 'dockerode';
import { Demultiplexer } from '../../src/platform/docker/demultiplexer.ts';
import { type Bench, type BenchRow, median } from './bench.ts';

const CHUNK_BYTES = 64 * 1024;

function frames(totalBytes: number, lineBytes: number): Buffer {
  const count = Math.floor(totalBytes / lineBytes);
  const frame = Buffer.alloc(8 + lineBytes, 0x61);
  frame.writeUInt32BE(1, 0);
  frame.writeUInt8(1, 0);
  frame.fill(0, 1, 4);
  frame.writeUInt32BE(lineBytes, 4);
  frame[frame.length - 1] = 0x0a;
  return Buffer.concat(Array.from({ length: count }, () => frame));
}

/** Bytes per second of payload. Each chunk is a copy: the demultiplexer owns what it is given, like a socket's. */
function ours(input: Buffer, payloadBytes: number): number {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < input.length; at += CHUNK_BYTES)
    chunks.push(Uint8Array.from(input.subarray(at, at + CHUNK_BYTES)));
  const demultiplexer = new Demultiplexer();
  const startedMs = performance.now();
  let seen = 0;
  for (const chunk of chunks) for (const piece of demultiplexer.push(chunk)) seen += piece.data.length;
  demultiplexer.end();
  const seconds = (performance.now() - startedMs) / 1000;
  if (seen !== payloadBytes) throw new Error(`ours gave ${seen} of ${payloadBytes} bytes`);
  return seen / seconds;
}

async function peers(input: Buffer, payloadBytes: number): Promise<number> {
  let seen = 0;
  const done = Promise.withResolvers<void>();
  const sink = new Writable({
    write(data: Buffer, _encoding, next) {
      seen += data.length;
      if (seen >= payloadBytes) done.resolve();
      next();
    },
  });
  const source = new PassThrough({ highWaterMark: CHUNK_BYTES });
  new Docker({ socketPath: '/nonexistent' }).modem.demuxStream(source, sink, sink);
  const startedMs = performance.now();
  for (let at = 0; at < input.length; at += CHUNK_BYTES) {
    if (!source.write(input.subarray(at, at + CHUNK_BYTES)))
      await new Promise((resolve) => source.once('drain', resolve));
  }
  source.end();
  await done.promise;
  return seen / ((performance.now() - startedMs) / 1000);
}

/** The bench. */
export const bench: Bench = {
  name: 'demultiplexer',
  description: "splitting the engine's output stream",
  missing: () => undefined,
  run: async ({ quick }) => {
    const rows: BenchRow[] = [];
    for (const lineBytes of [20, 100, 4096]) {
      const input = frames((quick ? 1 : 16) * 1024 * 1024, lineBytes);
      const payloadBytes = (input.length / (lineBytes + 8)) * lineBytes;
      const rates = { ours: [] as number[], peer: [] as number[] };
      for (let run = 0; run < (quick ? 2 : 5); run++) {
        rates.ours.push(ours(input, payloadBytes));
        rates.peer.push(await peers(input, payloadBytes));
      }
      rows.push({
        metric: `${lineBytes} B lines`,
        unit: 'MB/s',
        ours: median(rates.ours) / 1e6,
        peer: { name: 'docker-modem', value: median(rates.peer) / 1e6 },
        ...(lineBytes === 100 ? { goal: { kind: 'ratio at least' as const, value: 50 } } : {}),
      });
    }
    return rows;
  },
};
