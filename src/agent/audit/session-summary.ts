// What the audit log says of a session's command. Nothing that may be secret is in it: environment and password are left out.
import type { SessionAction } from '#gen/longline/v1/session_pb.js';

const LONGEST_TEXT = 512;
const MOST_ENTRIES = 16;

/** Bounded summary of an action as it was asked for. */
export function sessionSummary({ action }: SessionAction): Readonly<Record<string, unknown>> {
  if (action.case === undefined) return {};
  const whose = { action: action.case, session_id: cut(action.value.sessionId) };
  if (action.case === 'tunnel') return whose;
  const life = { ...whose, generation: String(action.value.generation) };
  if (action.case !== 'start') return { ...life, reason: cut(action.value.reason) };
  const { spec } = action.value;
  if (spec === undefined) return life;
  return {
    ...life,
    image: cut(spec.image),
    owner: cut(spec.owner),
    user: cut(spec.sandbox?.user ?? ''),
    capabilities: (spec.sandbox?.addCapabilities ?? []).slice(0, MOST_ENTRIES).map(cut),
    mounts: spec.mounts.slice(0, MOST_ENTRIES).map(({ source, writable }) => `${cut(source)}${writable ? ':rw' : ''}`),
    network: cut(spec.network?.name ?? ''),
  };
}

function cut(text: string): string {
  return text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text;
}
