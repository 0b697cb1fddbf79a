// Decides whether a signed statement may be believed here: who signed it, for whom, when, and in whose name. Knows nothing
// of what the statement asks for beyond its capability and required scopes; policy judges that. Every failure is a
// LonglineError that names the check. Bytes are verified before they are parsed.
import { fromBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type SignedPayload, type Statement, StatementSchema } from '#gen/longline/v1/signature_pb.js';
import { type AgentNameplate, unmetCondition } from '../../core/agent-selector.ts';
import { formatDuration } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { nameMatches } from '../../core/glob.ts';
import { STATEMENT_PAYLOAD_TYPE } from '../../core/signing/signature.ts';
import { entryRefusal } from './entry-check.ts';
import { iso, refuse, shown } from './refusal.ts';
import { trustedSignatures } from './signature-check.ts';
import { capabilityOf, requiredScopes, selectorOf } from './statement-view.ts';
import type { TrustEntry } from './trust-file.ts';

/** Bounds that the agent's policy and config set. */
export interface VerificationLimits {
  readonly maxPayloadBytes: number;
  readonly maxLifetimeMs: number;
  readonly maxSkewMs: number;
  /** Patterns of controller ids whose commands are taken; undefined for any. */
  readonly allowedControllers: readonly string[] | undefined;
}

/** What verification looks things up in. */
export interface VerificationContext {
  readonly limits: VerificationLimits;
  readonly agent: AgentNameplate;
  readonly nowMs: number;
  findKey(keyId: string): TrustEntry | undefined;
  /** True if another command used this nonce. */
  nonceSeen(nonce: Uint8Array): boolean;
}

/** A statement that may be believed, as far as its signer goes. */
export interface VerifiedStatement {
  readonly statement: Statement;
  readonly capability: string;
  /** The entry that vouches for it; undefined for an unsigned statement. */
  readonly signer: TrustEntry | undefined;
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

/** Largest payload that is verified, unless configured otherwise. */
export const DEFAULT_MAX_PAYLOAD_BYTES = 4 * 1024 * 1024;

const NONCE_BYTES = { min: 16, max: 64 } as const;
/** What the audit log keeps of it. Longer ones would also let a stranger choose what patterns with several * cost. */
const LONGEST_CONTROLLER_ID = 256;

/** Checks in the documented order and throws at the first that fails. */
export function verifyStatement(signed: SignedPayload | undefined, context: VerificationContext): VerifiedStatement {
  if (signed === undefined) throw refuse('invalid', 'statement', 'the command carries no statement');
  const { payload, payloadType } = signed;
  const { maxPayloadBytes } = context.limits;
  if (payload.length > maxPayloadBytes) {
    throw refuse('invalid', 'statement.size', `the payload has ${payload.length} bytes; at most ${maxPayloadBytes}`);
  }
  if (payloadType !== STATEMENT_PAYLOAD_TYPE) {
    const got = JSON.stringify(payloadType.slice(0, 100));
    throw refuse('invalid', 'statement.type', `the payload type is ${got}; it must be ${STATEMENT_PAYLOAD_TYPE}`);
  }
  const signers = signed.signatures.length === 0 ? [] : trustedSignatures(signed, context.findKey);
  const statement = parse(payload);
  checkControllerId(statement);
  const capability = capabilityOf(statement);
  const signer = pickSigner(signers, statement, capability, context);
  checkControllerAllowed(statement, context);
  checkAudience(statement, context.agent);
  const { issuedAtMs, expiresAtMs } = checkTimes(statement, context);
  checkNonce(statement.nonce, context);
  if (signer === undefined && requiredScopes(statement).length > 0) {
    throw refuse('identity', 'trust.scopes', 'the job requires scopes, which only a signing key can hold; sign it');
  }
  return { statement, capability, signer, issuedAtMs, expiresAtMs };
}

function parse(payload: Uint8Array): Statement {
  try {
    return fromBinary(StatementSchema, payload);
  } catch (error) {
    throw new LonglineError('invalid', 'the payload is no longline.v1.Statement', {
      rule: 'statement.form',
      cause: error,
    });
  }
}

function checkControllerId({ controllerId }: Statement): void {
  const { length } = controllerId;
  if (length <= LONGEST_CONTROLLER_ID) return;
  const message = `the controller id has ${length} characters; at most ${LONGEST_CONTROLLER_ID} are taken`;
  throw refuse('invalid', 'statement.controller_id', message);
}

/** The first trusted key that may do all that is asked; rights of several keys don't add up. */
function pickSigner(
  signers: readonly TrustEntry[],
  statement: Statement,
  capability: string,
  context: VerificationContext,
): TrustEntry | undefined {
  const wanted = { controllerId: statement.controllerId, capability, requiredScopes: requiredScopes(statement) };
  let first: LonglineError | undefined;
  for (const entry of signers) {
    const refusal = entryRefusal(entry, wanted, context.agent, context.nowMs);
    if (refusal === undefined) return entry;
    first ??= refusal;
  }
  if (first !== undefined) throw first;
  return undefined;
}

function checkControllerAllowed({ controllerId }: Statement, { limits }: VerificationContext): void {
  const allowed = limits.allowedControllers;
  if (allowed === undefined || allowed.some((pattern) => nameMatches(pattern, controllerId))) return;
  const list = allowed.join(', ') || 'none';
  throw refuse(
    'policy',
    'allowed_controllers',
    `controller ${shown(controllerId)} is not among those allowed: ${list}`,
  );
}

function checkAudience({ audience }: Statement, agent: AgentNameplate): void {
  if (audience === undefined) throw refuse('invalid', 'statement.audience', 'the statement names no audience');
  const unmet = unmetCondition(selectorOf(audience), agent);
  if (unmet !== undefined)
    throw refuse('policy', 'statement.audience', `the statement is not meant for this agent: ${unmet}`);
}

function checkTimes(statement: Statement, { limits, nowMs }: VerificationContext) {
  if (statement.issueTime === undefined || statement.expireTime === undefined) {
    throw refuse('invalid', 'statement.times', 'the statement lacks its issue time or its expiry');
  }
  const issuedAtMs = timestampMs(statement.issueTime);
  const expiresAtMs = timestampMs(statement.expireTime);
  if (!isTime(issuedAtMs) || !isTime(expiresAtMs)) {
    throw refuse('invalid', 'statement.times', 'the issue time or expiry lies outside the years 0001 to 9999');
  }
  const aheadMs = issuedAtMs - nowMs;
  if (aheadMs > limits.maxSkewMs) {
    const allowed = formatDuration(limits.maxSkewMs);
    throw refuse(
      'stale',
      'statement.issue_time',
      `issued ${formatDuration(aheadMs)} in the future by this host's clock (${iso(nowMs)}); at most ${allowed} is taken: check both clocks`,
    );
  }
  if (nowMs >= expiresAtMs) {
    throw refuse('late', 'statement.expire_time', `expired at ${iso(expiresAtMs)}; it is ${iso(nowMs)}`);
  }
  const lifetimeMs = expiresAtMs - issuedAtMs;
  if (lifetimeMs <= 0 || lifetimeMs > limits.maxLifetimeMs) {
    throw refuse(
      'policy',
      'signatures.max_lifetime',
      `valid for ${formatDuration(Math.max(lifetimeMs, 0))}; must be more than 0 and at most ${formatDuration(limits.maxLifetimeMs)}`,
    );
  }
  return { issuedAtMs, expiresAtMs };
}

function checkNonce(nonce: Uint8Array, context: VerificationContext): void {
  if (nonce.length < NONCE_BYTES.min || nonce.length > NONCE_BYTES.max) {
    throw refuse(
      'invalid',
      'statement.nonce',
      `the nonce has ${nonce.length} bytes; it must have ${NONCE_BYTES.min} to ${NONCE_BYTES.max}`,
    );
  }
  if (context.nonceSeen(nonce)) {
    throw refuse('stale', 'statement.nonce', 'another command used this nonce: the statement is replayed');
  }
}

function isTime(ms: number): boolean {
  return ms >= -62_135_596_800_000 && ms <= 253_402_300_799_999;
}
