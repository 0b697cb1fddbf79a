// What happens to containers, from the engine's event stream. Filtered here and not by the engine, because Podman's
// filters and names differ from Docker's.
import type { EngineEvent } from '../../capabilities/jobs/ports.ts';
import { type JsonObject, jsonLines, objectMember, textMember } from './json-lines.ts';

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
