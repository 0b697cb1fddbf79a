// Reading the bodies of answers that come in over time. Whatever goes wrong leaves as a LonglineError, and the
// connection is closed however the reading ends.
import type { ContainerExit } from '../../capabilities/jobs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import type { OpenResponse } from './engine-client.ts';

/** A body's chunks; a broken connection is a LonglineError. */
export async function* bodyOf(response: OpenResponse): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* response.body as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw response.explain(error);
  }
}

/** The items; the connection is closed however the reading ends. */
export async function* closing<T>(response: OpenResponse, items: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
  try {
    yield* items;
  } finally {
    response.body.destroy();
  }
}

/** The exit code that a wait's answer gives. Throws `unavailable` if it ended without one. */
export async function readExit(response: OpenResponse, what: string): Promise<ContainerExit> {
  let text = '';
  for await (const chunk of bodyOf(response)) text += Buffer.from(chunk).toString('utf8');
  const answer: unknown = text === '' ? undefined : JSON.parse(text);
  const exitCode = (answer as { readonly StatusCode?: unknown } | undefined)?.StatusCode;
  if (typeof exitCode === 'number') return { exitCode };
  throw new LonglineError('unavailable', `${what}: the container engine ended the wait without an exit code`);
}
