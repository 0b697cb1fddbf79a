// Names that NATS takes as subjects. Pure.
import { LonglineError } from '../../core/errors.ts';

const MAX_SUBJECT = 256;

/** The subject on which somebody asks this host for rollbacks. Throws `invalid` for an id that would be another subject. */
export function rollbackSubject(hostId: string): string {
  return checkedSubject(`orchestrator.rollback.${hostId}`, `host id ${JSON.stringify(hostId)}`);
}

/** A subject to publish on. Throws `invalid` for one with wildcards, blanks or empty parts. */
export function telemetrySubject(subject: string): string {
  return checkedSubject(subject, `telemetry subject ${JSON.stringify(subject)}`);
}

function checkedSubject(subject: string, what: string): string {
  const fault = faultOf(subject);
  if (fault === undefined) return subject;
  throw new LonglineError(
    'invalid',
    `${what}: ${fault}; NATS takes parts of letters, digits and signs with dots between`,
  );
}

function faultOf(subject: string): string | undefined {
  if (subject.length > MAX_SUBJECT) return `makes a subject of ${subject.length} characters, at most ${MAX_SUBJECT}`;
  const parts = subject.split('.');
  if (parts.includes('')) return 'has an empty part';
  // Within a part they are plain characters to a server, but others take them for wildcards.
  if (/[*>]/.test(subject)) return 'has a wildcard, "*" or ">"';
  if (/[\s\p{Cc}]/u.test(subject)) return 'has a blank or control character';
  return parts[0]!.startsWith('$') ? 'begins with "$", which is for the server' : undefined;
}
