// What a Node.js process holds on to, apart from what only awaits its garbage collector: the sizes of all that is in a heap snapshot, which
// it writes after a full collection. What is resident says little of it, as V8 gives room back late or never.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LIMIT_MS = 60_000;
const LOOK_EVERY_MS = 50;

interface Snapshot {
  readonly snapshot: { readonly meta: { readonly node_fields: readonly string[] } };
  readonly nodes: readonly number[];
}

/** Looks at processes that were started with `environment`. Dispose to remove what they wrote. */
export class HeldMemory implements AsyncDisposable {
  readonly environment: Readonly<Record<string, string>>;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.environment = { NODE_OPTIONS: `--heapsnapshot-signal=SIGUSR2 --diagnostic-dir=${folder}` };
  }

  static async open(): Promise<HeldMemory> {
    return new HeldMemory(await mkdtemp(join(tmpdir(), 'll-held-')));
  }

  /** Bytes held by the process, buffers included. It stands still meanwhile. Throws if it gives none within a minute. */
  async of(pid: number): Promise<number> {
    const before = new Set(await readdir(this.#folder));
    process.kill(pid, 'SIGUSR2');
    const endsAtMs = performance.now() + LIMIT_MS;
    while (performance.now() < endsAtMs) {
      const name = (await readdir(this.#folder)).find((found) => !before.has(found));
      const snapshot = name === undefined ? undefined : parse(await readFile(join(this.#folder, name), 'utf8'));
      if (name !== undefined && snapshot !== undefined) {
        await rm(join(this.#folder, name));
        return sizeOf(snapshot);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
    throw new Error(`process ${pid} wrote no heap snapshot within ${LIMIT_MS} ms`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Undefined while it is still being written. */
function parse(text: string): Snapshot | undefined {
  try {
    return JSON.parse(text) as Snapshot;
  } catch {
    return undefined;
  }
}

function sizeOf({ snapshot, nodes }: Snapshot): number {
  const fields = snapshot.meta.node_fields;
  let bytes = 0;
  for (let at = fields.indexOf('self_size'); at < nodes.length; at += fields.length) bytes += nodes[at]!;
  return bytes;
}
