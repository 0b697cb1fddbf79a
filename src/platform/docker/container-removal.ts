// Removing a container until it is gone: engines refuse while a removal is under way or while the container just ends.
import { type EngineClient, type EngineRequest, RefusedError } from './engine-client.ts';
import { saysNotRunning, saysRemovalInProgress } from './engine-errors.ts';

const POLL_MS = 50;

/** Removes a container with its anonymous volumes, killing it if it runs. Absent is no error. */
export async function removeContainer(client: EngineClient, id: string, signal?: AbortSignal): Promise<void> {
  const request: EngineRequest = {
    method: 'DELETE',
    path: `/containers/${id}`,
    query: { force: 'true', v: 'true' },
    what: `remove container ${id.slice(0, 12)}`,
    limitMs: client.limitMs,
  };
  const endsAt = performance.now() + client.limitMs;
  while (!(await tryRemove(client, request, endsAt, signal))) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** True if it is gone; false if it is on its way, or ended while it was being killed, and should be tried again. */
async function tryRemove(
  client: EngineClient,
  request: EngineRequest,
  endsAt: number,
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    await client.json(request, signal);
    return true;
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    if (error.reason === 'not_found') return true;
    const underWay = saysRemovalInProgress(error.refusal) || saysNotRunning(error.refusal);
    if (underWay && performance.now() < endsAt) return false;
    throw error;
  }
}
