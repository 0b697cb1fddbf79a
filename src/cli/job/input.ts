// Sending standard input to a running job: in order, each byte once, no faster than the job takes it.

import { LonglineError } from '../../core/errors.ts';
import type { Fleet } from '../fleet-connection.ts';
import { ReconnectBudget } from './reconnect-budget.ts';

const LARGEST_PIECE = 64 * 1024;

/**
 * Sends everything `source` gives to a job, then its end. Resolves early once the job wants no more. A piece is sent
 * again after a broken connection; the controller leaves out what it has. Rejects with the signal's reason.
 */
export async function pumpInput(
  fleet: Fleet,
  jobId: string,
  source: AsyncIterable<Uint8Array | string>,
  signal: AbortSignal,
): Promise<void> {
  let offset = 0n;
  const send = async (data: Uint8Array, end: boolean): Promise<boolean> => {
    const budget = new ReconnectBudget();
    budget.progress();
    for (;;) {
      try {
        const { acceptedOffset, closed } = await fleet.jobs.writeInput({ jobId, offset, data, end }, { signal });
        const wanted = offset + BigInt(data.length);
        if (acceptedOffset > wanted || (acceptedOffset < offset && !closed)) {
          throw new LonglineError(
            'internal',
            `the controller took input up to ${acceptedOffset}, ${offset} to ${wanted} was sent`,
          );
        }
        const taken = acceptedOffset < offset ? 0 : Number(acceptedOffset - offset);
        offset += BigInt(taken);
        data = data.subarray(taken);
        if (closed) return false;
        if (data.length === 0) return true;
        if (taken > 0) budget.progress();
      } catch (error) {
        signal.throwIfAborted();
        await budget.wait(error, (thrown) => fleet.toError(thrown), signal);
      }
    }
  };
  for await (const read of source) {
    signal.throwIfAborted();
    const bytes = typeof read === 'string' ? Buffer.from(read) : read;
    for (let at = 0; at < bytes.length; at += LARGEST_PIECE) {
      if (!(await send(bytes.subarray(at, at + LARGEST_PIECE), false))) return;
    }
  }
  await send(new Uint8Array(), true);
}
