// Progress of a pull, added up over its layers, from the engine's stream of JSON lines. An error inside the stream is
// thrown; a stream that says nothing for too long is given up.
import type { PullProgress, RegistryCredentials } from '../../capabilities/jobs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { pullError } from './engine-errors.ts';
import type { ImageReference } from './image-reference.ts';
import { type JsonObject, jsonLines, numberMember, objectMember, textMember } from './json-lines.ts';

/** A layer as far as it is known. */
interface Layer {
  total: number;
  fetched: number;
  done: boolean;
}

/** Most layers that are counted; images have at most 127. */
const LAYER_LIMIT = 1024;

/** Adds up layer events. */
export class PullTally {
  readonly #layers = new Map<string, Layer>();

  /** Takes a line; true if the sum changed. */
  take(line: JsonObject): boolean {
    const status = textMember(line, 'status');
    const id = textMember(line, 'id');
    if (id === '' || !isLayerStatus(status)) return false;
    const layer = this.#layers.get(id) ?? { total: 0, fetched: 0, done: false };
    if (!this.#layers.has(id) && this.#layers.size >= LAYER_LIMIT) return false;
    const before = { ...layer };
    const isNew = !this.#layers.has(id);
    this.#layers.set(id, layer);
    if (status === 'Downloading') {
      const detail = objectMember(line, 'progressDetail');
      layer.total = Math.max(layer.total, numberMember(detail, 'total'));
      layer.fetched = Math.max(layer.fetched, numberMember(detail, 'current'));
    } else if (status !== 'Pulling fs layer' && status !== 'Waiting') {
      layer.fetched = layer.total;
    }
    if (status === 'Pull complete' || status === 'Already exists') layer.done = true;
    return isNew || before.total !== layer.total || before.fetched !== layer.fetched || before.done !== layer.done;
  }

  /** The sum now. */
  progress(): PullProgress {
    let layersDone = 0;
    let bytesTotal = 0;
    let bytesDone = 0;
    for (const layer of this.#layers.values()) {
      if (layer.done) layersDone += 1;
      bytesTotal += Math.max(layer.total, layer.fetched);
      bytesDone += layer.fetched;
    }
    return { layersTotal: this.#layers.size, layersDone, bytesTotal, bytesDone };
  }

  /** The sum once the engine says that the whole image is there. */
  finished(): PullProgress {
    const { layersTotal, bytesTotal } = this.progress();
    return { layersTotal, layersDone: layersTotal, bytesTotal, bytesDone: bytesTotal };
  }
}

/** Reads the stream to its end, giving the sum whenever it changed, and once at the end. */
export async function* pullProgress(
  reference: string,
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<PullProgress, void, undefined> {
  const tally = new PullTally();
  for await (const line of jsonLines(source)) {
    const failure = textMember(objectMember(line, 'errorDetail'), 'message') || textMember(line, 'error');
    if (failure !== '') throw pullError(reference, failure);
    if (tally.take(line)) yield tally.progress();
  }
  yield tally.finished();
}

/** The source, given up with `unavailable` when no chunk comes for `stallMs`; the caller then ends the source. */
export async function* stallGuard(
  reference: string,
  source: AsyncIterable<Uint8Array>,
  stallMs: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const iterator = source[Symbol.asyncIterator]();
  let waiting = false;
  try {
    for (;;) {
      const stalled = Promise.withResolvers<never>();
      const message = `image ${JSON.stringify(reference)}: the pull made no progress for ${stallMs} ms`;
      const timer = setTimeout(() => stalled.reject(new LonglineError('unavailable', message)), stallMs);
      waiting = true;
      const next = await Promise.race([iterator.next(), stalled.promise]).finally(() => clearTimeout(timer));
      waiting = false;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // A generator that waits for its own source can't be returned from: that would wait as long.
    if (!waiting) await iterator.return?.();
  }
}

/** Query of POST /images/create. A tag or digest always goes along: without one Docker pulls every tag. */
export function pullQuery({ registry, repository, tag, digest }: ImageReference): Record<string, string> {
  return { fromImage: `${registry}/${repository}`, tag: digest ?? tag ?? 'latest' };
}

/** Value of X-Registry-Auth: base64url with padding, which engines insist on. */
export function registryAuth(reference: ImageReference, credentials: RegistryCredentials): string {
  const { username, password } = credentials;
  const json = JSON.stringify({ username, password, serveraddress: reference.registry });
  return Buffer.from(json).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

function isLayerStatus(status: string): boolean {
  return [
    'Pulling fs layer',
    'Waiting',
    'Downloading',
    'Verifying Checksum',
    'Download complete',
    'Extracting',
    'Pull complete',
    'Already exists',
  ].includes(status);
}
