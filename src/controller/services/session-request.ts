// A request to start a session, checked as far as that goes without knowing what is stored: target, ids, times, and a
// statement that was signed elsewhere. All mistakes are told at once. Pure.
import { durationMs } from '@bufbuild/protobuf/wkt';
import { type SessionRequest, SessionRequestSchema } from '#gen/longline/fleet/v1/session_service_pb.js';
import type { Selector } from '#gen/longline/v1/agent_pb.js';
import type { SessionSpec, SessionTarget, StartSession } from '#gen/longline/v1/session_pb.js';
import type { SignedPayload } from '#gen/longline/v1/signature_pb.js';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { AGENT_ID, SESSION_ID } from '../../core/ids.ts';
import { contentHash } from './content-hash.ts';
import { readForeign } from './foreign-statement.ts';
import { selectorViolations } from './selector.ts';
import { sessionSpecViolations } from './session-spec-shape.ts';

const DEFAULT_TTL_MS = 600_000;
const MAX_TTL_MS = 30 * 86_400_000;
const MAX_REQUEST_ID = 128;
const TEMPLATE = /^([a-z0-9][a-z0-9-]{0,62})(?::([1-9]\d{0,8}))?$/;

/** A start that was signed elsewhere. */
export interface SignedStart {
  /** To be sent as it is. */
  readonly signed: SignedPayload;
  readonly audience: Selector | undefined;
  readonly start: StartSession & { spec: SessionSpec };
}

/** A template by name; version 0 is the latest. */
export interface TemplateRef {
  readonly name: string;
  readonly version: number;
}

/** A request that is sound in itself. */
export interface CheckedStart {
  /** Empty for a new one. */
  readonly sessionId: string;
  readonly target: Extract<SessionTarget['target'], { case: string }>;
  /** What the request itself says of the spec. */
  readonly spec: SessionSpec | undefined;
  readonly template: TemplateRef | undefined;
  readonly foreign: SignedStart | undefined;
  readonly requestId: string;
  readonly expiresAtMs: number;
  readonly hash: Uint8Array;
}

const shown = (text: string): string => JSON.stringify(text.slice(0, 80));

/** What is wrong with an idempotency key. */
export function requestIdViolations(requestId: string, field: string): readonly FieldViolation[] {
  if (requestId.length <= MAX_REQUEST_ID) return [];
  return [{ field, description: `has ${requestId.length} characters; at most ${MAX_REQUEST_ID} are allowed` }];
}

/** What is wrong with a session id or template name. */
export function nameViolations(name: string, field: string): readonly FieldViolation[] {
  if (SESSION_ID.test(name)) return [];
  const form = 'must be 1 to 63 characters of [a-z0-9-], the first a letter or digit';
  return [{ field, description: `${shown(name)} ${form}` }];
}

function targetViolations(target: SessionTarget | undefined): readonly FieldViolation[] {
  const chosen = target?.target;
  const field = 'session.target';
  if (chosen?.case === 'anyOf') return selectorViolations(chosen.value, `${field}.any_of`);
  if (chosen?.case !== 'agentId') return [{ field, description: 'is missing; give agent_id or any_of' }];
  if (AGENT_ID.test(chosen.value)) return [];
  const description = `${shown(chosen.value)} must be 1 to 128 characters of [A-Za-z0-9._-]`;
  return [{ field: `${field}.agent_id`, description }];
}

interface SignedParts {
  readonly violations: readonly FieldViolation[];
  readonly foreign: SignedStart | undefined;
  readonly expiresAtMs: number;
}

function signedParts(signed: SignedPayload, nowMs: number): SignedParts {
  const { violations, action, audience, expiresAtMs } = readForeign(signed, 'session.signed', nowMs);
  const found = [...violations];
  const path = 'session.signed.payload.action';
  const session = action?.action.case === 'session' ? action.action.value.action : undefined;
  const start = session?.case === 'start' ? session.value : undefined;
  if (action !== undefined && start === undefined) {
    found.push({ field: path, description: 'must be to start a session' });
  }
  const { spec } = start ?? {};
  if (start === undefined || spec === undefined) {
    if (start !== undefined) found.push({ field: `${path}.session.start.spec`, description: 'is missing' });
    return { violations: found, foreign: undefined, expiresAtMs };
  }
  found.push(...nameViolations(start.sessionId, `${path}.session.start.session_id`));
  found.push(...sessionSpecViolations(spec, `${path}.session.start.spec`));
  if (start.specHash.length !== 16) {
    const description = `has ${start.specHash.length} bytes; must have 16`;
    found.push({ field: `${path}.session.start.spec_hash`, description });
  }
  return { violations: found, foreign: { signed, audience, start: { ...start, spec } }, expiresAtMs };
}

function parseTemplate(text: string): TemplateRef | FieldViolation | undefined {
  if (text === '') return undefined;
  const match = TEMPLATE.exec(text);
  if (match !== null) return { name: match[1]!, version: Number(match[2] ?? 0) };
  return { field: 'session.template', description: `${shown(text)} must be the name of a template, or name:version` };
}

/** Checks a request. Throws `invalid` with everything that is wrong with it. */
export function checkStart(request: SessionRequest | undefined, nowMs: number): CheckedStart {
  if (request === undefined) throw invalid([{ field: 'session', description: 'is missing' }]);
  const { sessionId, target, spec, signed, requestId, ttl } = request;
  const violations = [...targetViolations(target), ...requestIdViolations(requestId, 'session.request_id')];
  if (sessionId !== '') violations.push(...nameViolations(sessionId, 'session.session_id'));
  const template = parseTemplate(request.template);
  if (template !== undefined && 'field' in template) violations.push(template);
  const ttlMs = ttl === undefined ? DEFAULT_TTL_MS : durationMs(ttl);
  if (!(ttlMs > 0 && ttlMs <= MAX_TTL_MS)) {
    violations.push({ field: 'session.ttl', description: `is ${ttlMs} ms; must be 1 ms to 30 days` });
  }
  const parts = signed === undefined ? undefined : signedParts(signed, nowMs);
  if (parts !== undefined) {
    violations.push(...parts.violations);
    if (spec !== undefined || request.template !== '') {
      const description = 'is given together with spec or template; it says itself what is started';
      violations.push({ field: 'session.signed', description });
    }
    const signedId = parts.foreign?.start.sessionId ?? '';
    if (sessionId !== '' && signedId !== '' && sessionId !== signedId) {
      violations.push({ field: 'session.session_id', description: `isn't ${signedId}, which was signed` });
    }
  } else if (spec === undefined && request.template === '') {
    violations.push({ field: 'session.spec', description: 'is missing, and so are template and signed' });
  } else if (spec !== undefined && request.template === '') {
    violations.push(...sessionSpecViolations(spec, 'session.spec'));
  }
  if (violations.length > 0) throw invalid(violations);
  return {
    sessionId: parts?.foreign?.start.sessionId ?? sessionId,
    target: target!.target as CheckedStart['target'],
    spec,
    template: template as TemplateRef | undefined,
    foreign: parts?.foreign,
    requestId,
    expiresAtMs: parts?.expiresAtMs ?? nowMs + ttlMs,
    hash: contentHash(SessionRequestSchema, request),
  };
}
