// What happens to containers, from the engine's event stream. Filtered here and not by the engine, because Podman's
// filters and names differ from Docker's.
import type { EngineEvent } from '../../capabilities/jobs/ports.ts';
import type { SessionEngineEvent } from '../../capabilities/sessions/ports.ts';
import type { EngineClient, OpenResponse } from './engine-client.ts';
import { type JsonObject, jsonLines, objectMember, textMember } from './json-lines.ts';

/** Opens the stream of events from now on. */
export async function openEvents(client: EngineClient, signal: AbortSignal): Promise<OpenResponse> {
  const since = (Date.now() / 1000).toFixed(3);
  const { kind } = await client.version(signal);
  // The request itself has no limit, because Podman may answer only when something happens.
  await client.ping(signal);
  return await client.open(
    {
      method: 'GET',
      path: '/events',
      // Docker repeats what happened while the request travelled. Podman's times are too coarse for that.
      query: kind === 'docker' ? { since, filters: JSON.stringify({ type: ['container'] }) } : {},
      what: 'listen to events',
      limitMs: undefined,
    },
    signal,
  );
}

/** The events among the lines of an event stream. Ends and throws as the source does. */
export async function* engineEvents(source: AsyncIterable<Uint8Array>): AsyncGenerator<EngineEvent, void, undefined> {
  for await (const line of jsonLines(source)) {
    const event = engineEvent(line);
    if (event !== undefined) yield event;
  }
}

/** The event that a line stands for; undefined for those nobody asked for. */
export function engineEvent(line: JsonObject): EngineEvent | undefined {
  const type = textMember(line, 'Type');
  if (type !== '' && type !== 'container') return undefined;
  const actor = objectMember(line, 'Actor');
  const containerId = textMember(actor, 'ID') || textMember(line, 'id');
  if (containerId === '') return undefined;
  const action = textMember(line, 'Action') || textMember(line, 'status');
  if (action === 'oom') return { kind: 'oom', containerId };
  if (action !== 'die' && action !== 'died') return undefined;
  const attributes = objectMember(actor, 'Attributes');
  const exitCode = Number(textMember(attributes, 'exitCode') || textMember(attributes, 'containerExitCode') || 'NaN');
  return Number.isInteger(exitCode) ? { kind: 'exited', containerId, exitCode } : undefined;
}

/** The events that sessions ask for. */
export async function* sessionEvents(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<SessionEngineEvent, void, undefined> {
  for await (const line of jsonLines(source)) {
    const event = engineEvent(line) ?? removal(line);
    if (event !== undefined) yield event;
  }
}

/** Docker says "destroy", Podman "remove". */
function removal(line: JsonObject): SessionEngineEvent | undefined {
  const type = textMember(line, 'Type');
  const containerId = textMember(objectMember(line, 'Actor'), 'ID') || textMember(line, 'id');
  const action = textMember(line, 'Action') || textMember(line, 'status');
  if ((type !== '' && type !== 'container') || containerId === '') return undefined;
  return action === 'destroy' || action === 'remove' ? { kind: 'removed', containerId } : undefined;
}
