// Rollbacks that an orchestrator asks for over NATS. A request is JSON:
// {"program": "drop", "artifact_id": "sha256:…", "reason": "…", "host_id": "…"}, of which program or artifact_id is needed, and host_id,
// if it is there, has to be this host's. The answer is {"ok": true, "rollback": {…}} or {"ok": false, "error": {"reason", "message"}}.
// Pure.
import type { AnnouncedRollback, RollbackRequest } from '../../capabilities/programs/ports.ts';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { rollbackFacts } from './message.ts';

const MAX_BYTES = 16 * 1024;
const MAX_REASON = 1024;
const PROGRAM = /^[A-Za-z][A-Za-z0-9_-]{0,62}$/;
const ARTIFACT = /^sha256:[0-9a-f]{64}$/;

/** Reads a request. Throws `invalid` with what is wrong and what would be right. Fields that it doesn't know are left alone. */
export function parseRollbackRequest(data: Uint8Array, hostId: string): RollbackRequest {
  const fields = fieldsOf(data);
  const violations: FieldViolation[] = [];
  const text = (field: string, pattern: RegExp, right: string): string | undefined => {
    const value = fields[field];
    if (value === undefined || value === null || value === '') return undefined;
    if (typeof value === 'string' && pattern.test(value)) return value;
    violations.push({ field, description: `${shown(value)} must be ${right}` });
    return undefined;
  };
  const program = text('program', PROGRAM, 'a name: letters, digits, "_" and "-", at most 63, beginning with a letter');
  const artifact = text('artifact_id', ARTIFACT, '"sha256:" and 64 hex digits in lower case');
  const reason = text('reason', /^.{0,1024}$/s, `text of at most ${MAX_REASON} characters`);
  const host = text('host_id', /^.*$/s, 'text');
  if (host !== undefined && host !== hostId) {
    violations.push({ field: 'host_id', description: `${shown(host)} is another host; this one is ${shown(hostId)}` });
  }
  if (program === undefined && artifact === undefined && violations.length === 0) {
    violations.push({ field: 'program', description: 'is missing, and so is artifact_id; one of them is needed' });
  }
  if (violations.length > 0) throw invalid(violations);
  return { program, artifact, reason: reason ?? 'asked for over NATS', requestedBy: 'nats' };
}

/** The answer to a request that was carried out, whether the rollback came about or not. */
export function rollbackReply(rollback: AnnouncedRollback): Uint8Array {
  const ok = rollback.error === undefined;
  return encode({ ok, rollback: rollbackFacts(rollback) });
}

/** The answer to a request that was refused. */
export function refusalReply({ reason, message }: LonglineError): Uint8Array {
  return encode({ ok: false, error: { reason, message } });
}

function fieldsOf(data: Uint8Array): Readonly<Record<string, unknown>> {
  if (data.length > MAX_BYTES) {
    throw new LonglineError('invalid', `the request has ${data.length} bytes; at most ${MAX_BYTES} are read`);
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data));
  } catch (error) {
    const right = 'must be JSON such as {"program": "drop", "reason": "…"}';
    throw new LonglineError('invalid', `the request is no JSON in UTF-8; it ${right}`, { cause: error });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new LonglineError(
    'invalid',
    `the request is ${shown(value)}; it must be an object with program or artifact_id`,
  );
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? 'undefined').slice(0, 100);
}

function encode(reply: Record<string, unknown>): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(reply));
}
