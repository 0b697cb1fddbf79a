// Whether an engine can write a container's memory to disk. Docker needs its experimental features and CRIU; that CRIU
// works on this kernel only its own check can tell.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const CHECK_LIMIT_MS = 10_000;

/** What decides. */
export interface CheckpointGround {
  readonly kind: 'docker' | 'podman';
  readonly experimental: boolean;
  /** The engine runs on this host. */
  readonly local: boolean;
}

/** Undefined if checkpoints can be made; else why not. `check` runs CRIU's own check and throws what it says. */
export async function checkpointMissing(
  ground: CheckpointGround,
  check: () => Promise<void> = criuCheck,
): Promise<string | undefined> {
  if (ground.kind === 'podman') return "Podman makes no checkpoints through Docker's API";
  if (!ground.experimental) return 'Docker makes checkpoints only with "experimental": true in its daemon.json';
  if (!ground.local) return 'the engine runs on another host, where CRIU can not be checked';
  try {
    await check();
    return undefined;
  } catch (error) {
    const { code, stderr = '', message } = error as NodeJS.ErrnoException & { readonly stderr?: string };
    if (code === 'ENOENT') return 'CRIU is not installed';
    const said = stderr.trim().split('\n').at(-1) || message;
    return `CRIU does not work on this host: ${said.slice(0, 300)}`;
  }
}

async function criuCheck(): Promise<void> {
  await run('criu', ['check'], { timeout: CHECK_LIMIT_MS });
}
