// A container's kept output, from its first byte, exactly as the program wrote it.
import type { OutputPiece, StreamName } from '../../capabilities/jobs/ports.ts';
import type { RawContainer } from './container-facts.ts';
import { demultiplex } from './demultiplexer.ts';
import type { EngineClient } from './engine-client.ts';
import { lastMessageEndsLine, localLogPieces } from './local-log.ts';
import { localLogFile, logCut } from './log-cut.ts';
import { bodyOf, closing } from './response-body.ts';

/**
 * Reads the log; on to the container's end if `follow`. Throws `wrong_state` when output was dropped, as far as that can
 * be seen. @param engineRoot the engine's data folder if it is on this host.
 */
export async function* containerLog(
  client: EngineClient,
  container: RawContainer,
  engineRoot: string | undefined,
  follow: boolean,
  signal?: AbortSignal,
): AsyncGenerator<OutputPiece, void, undefined> {
  const cut = logCut(container, engineRoot);
  cut.check();
  const given = { stdout: 0, stderr: 0 };
  for await (const piece of readOnce(client, container, engineRoot, follow, signal)) {
    // After reading and before giving: what is given was read while nothing had been dropped.
    cut.check();
    given[piece.stream] += piece.data.length;
    yield piece;
  }
  // Podman stops to follow when the container ends, whether or not it has read to the end of the log.
  if (follow && container.HostConfig?.LogConfig?.Type !== 'local') {
    yield* after(given, readOnce(client, container, engineRoot, false, signal));
  }
  cut.check();
}

async function* readOnce(
  client: EngineClient,
  container: RawContainer,
  engineRoot: string | undefined,
  follow: boolean,
  signal: AbortSignal | undefined,
): AsyncGenerator<OutputPiece, void, undefined> {
  const inParts = container.HostConfig?.LogConfig?.Type === 'local';
  const query = {
    ...{ stdout: '1', stderr: '1' },
    ...(follow ? { follow: '1' } : {}),
    ...(inParts ? { timestamps: '1' } : {}),
  };
  const response = await client.open(
    {
      method: 'GET',
      path: `/containers/${container.Id}/logs`,
      query,
      what: `read the log of container ${container.Id.slice(0, 12)}`,
      // Podman sends nothing, not even headers, before a followed container's first output.
      limitMs: follow ? undefined : client.limitMs,
    },
    signal,
  );
  const chunks = bodyOf(response);
  const file = localLogFile(container, engineRoot);
  const pieces = inParts
    ? localLogPieces(chunks, (stream) => file !== undefined && lastMessageEndsLine(file, stream))
    : demultiplex(chunks);
  yield* closing(response, pieces);
}

/** The pieces without the first `skipped` bytes of each stream. */
async function* after(
  skipped: Readonly<Record<StreamName, number>>,
  pieces: AsyncIterable<OutputPiece>,
): AsyncGenerator<OutputPiece, void, undefined> {
  const left = { ...skipped };
  for await (const { stream, data } of pieces) {
    const skip = Math.min(left[stream], data.length);
    left[stream] -= skip;
    if (skip < data.length) yield { stream, data: data.subarray(skip) };
  }
}
