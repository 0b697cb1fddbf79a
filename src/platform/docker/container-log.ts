// A container's kept output, from its first byte, exactly as the program wrote it.
import type { OutputPiece, StreamName } from '../../capabilities/jobs/ports.ts';
import type { RawContainer } from './container-facts.ts';
import { demultiplex } from './demultiplexer.ts';
import type { EngineClient } from './engine-client.ts';
import { lastMessageEndsLine, localLogPieces } from './local-log.ts';
import { k8sLogFile, localLogFile, logCut } from './log-cut.ts';
import { type ContainerEnd, containerEnd, followLogFile } from './log-file.ts';
import { bodyOf, closing } from './response-body.ts';

const REREAD_MS = 500;
/** Reading again takes at most this part of the time. */
const REREAD_FACTOR = 10;

/** Where a container's log is read. */
export interface LogSource {
  readonly client: EngineClient;
  readonly container: RawContainer;
  /** The engine's data folder if it is on this host. */
  readonly engineRoot: string | undefined;
}

/** Reads what is there. Throws `wrong_state` when output was dropped, as far as that can be seen. */
export function containerLog(source: LogSource, signal?: AbortSignal): AsyncGenerator<OutputPiece, void, undefined> {
  return uncut(source, readOnce(source, false, signal));
}

/** Reads on until the container has ended, which `ended` says. Fails as `containerLog` and `ended` do. */
export async function* followedLog(
  source: LogSource,
  ended: () => Promise<void>,
  signal?: AbortSignal,
): AsyncGenerator<OutputPiece, void, undefined> {
  if (source.container.HostConfig?.LogConfig?.Type === 'local') {
    yield* uncut(source, readOnce(source, true, signal));
    return;
  }
  const end = containerEnd(ended());
  const file = k8sLogFile(source.container, source.engineRoot);
  const pieces = file === undefined ? readAgain(source, end, signal) : followLogFile(file, end);
  yield* uncut(source, pieces);
}

async function* uncut(
  { container, engineRoot }: LogSource,
  pieces: AsyncIterable<OutputPiece>,
): AsyncGenerator<OutputPiece, void, undefined> {
  const cut = logCut(container, engineRoot);
  cut.check();
  for await (const piece of pieces) {
    // After reading and before giving: what is given was read while nothing had been dropped.
    cut.check();
    yield piece;
  }
  cut.check();
}

/** Follows a log of which only the API tells, and whose own follow loses lines: reads all of it, again and again. */
async function* readAgain(
  source: LogSource,
  end: ContainerEnd,
  signal: AbortSignal | undefined,
): AsyncGenerator<OutputPiece, void, undefined> {
  const given = { stdout: 0, stderr: 0 };
  for (;;) {
    const last = end.seen;
    const beganMs = performance.now();
    for await (const piece of after(given, readOnce(source, false, signal))) {
      given[piece.stream] += piece.data.length;
      yield piece;
    }
    if (last) return;
    await end.wait(Math.max(REREAD_MS, (performance.now() - beganMs) * REREAD_FACTOR));
  }
}

async function* readOnce(
  { client, container, engineRoot }: LogSource,
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
