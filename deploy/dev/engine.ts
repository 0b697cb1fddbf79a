// A container engine to try things with: the machine's own if one answers, which is then left as it was, else a private dockerd
// in a temporary folder that ends with this process. `node deploy/dev/engine.ts` keeps one up until Ctrl-C.
import { access, constants } from 'node:fs/promises';
import { call } from '../../test/fixtures/engine-query.ts';
import { dockerMissing, startDocker, waitForEngine } from '../../test/fixtures/engines.ts';
import { importImage, rootFilesystem, testImageMissing } from '../../test/fixtures/test-image.ts';

/** Busybox, made on the spot from the machine's own static one: the demo needs no registry. */
export const DEMO_IMAGE = 'longline/busybox:demo';

/** An engine that answers. */
export interface UsableEngine extends AsyncDisposable {
  readonly host: string;
  readonly socketPath: string;
  /** False for the machine's own. */
  readonly isPrivate: boolean;
}

async function ownEngineSocket(): Promise<string | undefined> {
  const host = process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock';
  if (!host.startsWith('unix://')) return undefined;
  const socketPath = host.slice('unix://'.length);
  try {
    await access(socketPath, constants.R_OK | constants.W_OK);
    await waitForEngine(socketPath, 2000);
    return socketPath;
  } catch {
    return undefined;
  }
}

/** Makes the offline image, if the engine doesn't have it. It goes with the engine's disposal, unless it was there before. */
export async function loadDemoImage({ socketPath }: UsableEngine): Promise<void> {
  if (!(await hasImage(socketPath))) await importImage(socketPath, DEMO_IMAGE, await rootFilesystem('shell'));
}

async function hasImage(socketPath: string): Promise<boolean> {
  return await call(socketPath, 'GET', `/images/${DEMO_IMAGE}/json`).then(
    () => true,
    () => false,
  );
}

/** The machine's engine if one runs, else a private one; or what the machine lacks for that. */
export async function findEngine(): Promise<UsableEngine | { readonly missing: string }> {
  const noImage = testImageMissing();
  if (noImage !== undefined) return { missing: noImage };
  const socketPath = await ownEngineSocket();
  if (socketPath !== undefined) {
    const hadImage = await hasImage(socketPath);
    const removeImage = async () => {
      if (!hadImage && (await hasImage(socketPath))) await call(socketPath, 'DELETE', `/images/${DEMO_IMAGE}`);
    };
    return { host: `unix://${socketPath}`, socketPath, isPrivate: false, [Symbol.asyncDispose]: removeImage };
  }
  const missing = dockerMissing();
  if (missing !== undefined) return { missing };
  const engine = await startDocker();
  const { host } = engine;
  return {
    host,
    socketPath: engine.socketPath,
    isPrivate: true,
    [Symbol.asyncDispose]: async () => await engine.dispose(),
  };
}

async function main(): Promise<number> {
  const stopped = Promise.withResolvers<void>();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopped.resolve());
  const found = await findEngine();
  if ('missing' in found) {
    process.stderr.write(`No container engine answers, and none can be started: ${found.missing}.\n`);
    return 3;
  }
  await using engine = found;
  process.stdout.write(`export DOCKER_HOST=${engine.host}\n`);
  if (engine.isPrivate) {
    // Signals alone don't keep a process alive.
    const alive = setInterval(() => undefined, 60_000);
    await stopped.promise;
    clearInterval(alive);
  }
  return 0;
}

if (import.meta.main) process.exitCode = await main();
