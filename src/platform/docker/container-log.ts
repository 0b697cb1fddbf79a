// A container's kept output, from its first byte, exactly as the program wrote it.
import type { OutputPiece } from '../../capabilities/jobs/ports.ts';
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
  const inParts = container.HostConfig?.LogConfig?.Type === 'local';
  const query = {
    stdout: '1',
    stderr: '1',
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
  for await (const piece of closing(response, pieces)) {
    // After reading and before giving: what is given was read while nothing had been dropped.
    cut.check();
    yield piece;
  }
  cut.check();
}
