// A container's kept output, from its first byte, exactly as the program wrote it.
import type { OutputPiece } from '../../capabilities/jobs/ports.ts';
import type { RawContainer } from './container-facts.ts';
import { demultiplex } from './demultiplexer.ts';
import type { EngineClient } from './engine-client.ts';
import { lastMessageEndsLine, localLogPieces } from './local-log.ts';
import { k8sLogFile, localLogFile, logCut } from './log-cut.ts';
import { type ContainerEnd, containerEnd, followLogFile } from './log-file.ts';
import { LogPosition } from './log-position.ts';
import { bodyOf, closing } from './response-body.ts';

const REREAD_MS = 500;
/** Reading again takes at most this part of the time. */
const REREAD_FACTOR = 10;

/** Reads what is there and waits for nothing. */
const ENDED: ContainerEnd = { seen: true, wait: async () => undefined };

/** Where a container's log is read. */
export interface LogSource {
  readonly client: EngineClient;
  readonly container: RawContainer;
  /** The engine's data folder if it is on this host. */
  readonly engineRoot: string | undefined;
}

/** Reads what is there. Throws `wrong_state` when output was dropped, as far as that can be seen. */
export function containerLog(source: LogSource, signal?: AbortSignal): AsyncGenerator<OutputPiece, void, undefined> {
  // Podman's API takes a hundred times as long as its file.
  const file = k8sLogFile(source.container, source.engineRoot);
  return uncut(source, file === undefined ? readOnce(source, false, signal) : followLogFile(file, ENDED, signal));
}

/** Reads on until the container has ended, which `ended` says. Fails as `containerLog` and `ended` do. */
export function followedLog(
  source: LogSource,
  ended: () => Promise<void>,
  signal?: AbortSignal,
): AsyncGenerator<OutputPiece, void, undefined> {
  const end = containerEnd(ended());
  if (source.container.HostConfig?.LogConfig?.Type === 'local')
    return uncut(source, readAgain(source, end, true, signal));
  const file = k8sLogFile(source.container, source.engineRoot);
  return uncut(source, file === undefined ? readAgain(source, end, false, signal) : followLogFile(file, end, signal));
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

/**
 * Reads all of a log again until a reading began after the end. Docker's own follow may drop what it has not sent when the
 * container ends, so its readings follow but the last, which has the rest; that of Podman loses lines at any time.
 */
async function* readAgain(
  source: LogSource,
  end: ContainerEnd,
  follow: boolean,
  signal: AbortSignal | undefined,
): AsyncGenerator<OutputPiece, void, undefined> {
  const position = new LogPosition();
  for (;;) {
    const last = end.seen;
    const beganMs = performance.now();
    yield* position.beyond(readOnce(source, follow && !last, signal));
    if (last) return;
    await end.wait(follow ? REREAD_MS : Math.max(REREAD_MS, (performance.now() - beganMs) * REREAD_FACTOR));
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
