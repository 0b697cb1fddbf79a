// Whether a desired state may be brought about: statement, signature and policy, as for commands, and a record of the verdict
// before anything is done. A statement has to permit the very generation, base and bytes that came. A verdict that can't be
// recorded refuses the state as `unavailable` or `limit`.
import { hash } from 'node:crypto';
import { LonglineError, toLonglineError } from '../core/errors.ts';
import { refusalOf } from '../core/policy/evaluation.ts';
import type { AdmittedState, ReceivedState, StateAdmission } from '../link/ports.ts';
import type { AdmissionParts } from './admission.ts';
import type { AuditEntry } from './audit/audit-log.ts';
import { programStateSummary } from './audit/program-summary.ts';
import { DEFAULT_MAX_PAYLOAD_BYTES, type VerifiedStatement, verifyStatement } from './trust/statement-verification.ts';
import { permitOf, type StatePermit } from './trust/statement-view.ts';

/** What it is made from. */
export type StateAdmissionParts = Pick<
  AdmissionParts,
  'trust' | 'policy' | 'audit' | 'clock' | 'nameplate' | 'allowedControllers' | 'maxSkewMs'
>;

const LONGEST_REFUSAL = 1024;
const UNSIGNED: AdmittedState = { nonce: new Uint8Array(), nonceExpiresAtMs: 0 };

/** The gate before keepers of desired states. */
export class DesiredStateAdmission implements StateAdmission {
  readonly #parts: StateAdmissionParts;

  constructor(parts: StateAdmissionParts) {
    this.#parts = parts;
  }

  async admit(received: ReceivedState, nonceSeen: (nonce: Uint8Array) => boolean): Promise<AdmittedState> {
    const { audit, maxSkewMs } = this.#parts;
    let verified: VerifiedStatement | undefined;
    try {
      verified = received.state.statement === undefined ? undefined : this.#verify(received, nonceSeen);
      this.#judge(received, verified);
    } catch (error) {
      const refusal = toLonglineError(error);
      await audit.append(receivedEntry(received), refusedEntry(received, verified, refusal));
      throw refusal;
    }
    const admitted = { ...entryOf(received, verified), event: 'admitted', outcome: 'allowed' } as const;
    await audit.append(receivedEntry(received), admitted);
    if (verified === undefined) return UNSIGNED;
    // A clock set back by the allowed skew must not let the statement in again.
    return { nonce: verified.statement.nonce, nonceExpiresAtMs: verified.expiresAtMs + maxSkewMs };
  }

  refused(received: ReceivedState, error: LonglineError): void {
    this.#parts.audit.note(receivedEntry(received), refusedEntry(received, undefined, error));
  }

  taken(received: ReceivedState): void {
    this.#parts.audit.note({ ...entryOf(received, undefined), event: 'started' });
  }

  #verify(received: ReceivedState, nonceSeen: (nonce: Uint8Array) => boolean): VerifiedStatement {
    const { trust, policy, clock, nameplate, allowedControllers, maxSkewMs } = this.#parts;
    const verified = verifyStatement(received.state.statement, {
      limits: {
        maxPayloadBytes: DEFAULT_MAX_PAYLOAD_BYTES,
        maxLifetimeMs: policy.policy.signatures.maxLifetimeMs,
        maxSkewMs,
        allowedControllers: allowedControllers(),
      },
      agent: nameplate(),
      nowMs: clock.now(),
      findKey: (keyId) => trust.find(keyId),
      nonceSeen,
    });
    checkPermit(received, verified);
    return verified;
  }

  #judge({ kind }: ReceivedState, verified: VerifiedStatement | undefined): void {
    const refusal = refusalOf(
      this.#parts.policy.evaluate({
        capability: kind,
        controllerId: verified?.statement.controllerId ?? '',
        keyId: verified?.signer?.keyId,
        job: undefined,
      }),
    );
    if (refusal !== undefined) throw refusal;
  }
}

/** Throws `policy` unless the statement permits just this. */
function checkPermit({ kind, state, body }: ReceivedState, { statement, capability }: VerifiedStatement): void {
  const permit = permitOf(statement);
  if (permit === undefined || capability !== kind) {
    throw new LonglineError('invalid', `the statement of a desired state of kind ${kind} permits something else`, {
      rule: 'statement.action',
    });
  }
  const wrong = difference(permit, state.generation, state.baseGeneration, body);
  if (wrong === undefined) return;
  throw new LonglineError('policy', `the statement permits another desired state: ${wrong}`, {
    rule: 'statement.action',
  });
}

function difference(
  permit: StatePermit,
  generation: bigint,
  baseGeneration: bigint,
  body: Uint8Array,
): string | undefined {
  if (permit.generation !== generation) return `generation ${permit.generation}, and ${generation} came`;
  if (permit.baseGeneration !== baseGeneration) {
    return `a change of generation ${permit.baseGeneration}, and one of ${baseGeneration} came`;
  }
  const sha256 = hash('sha256', body);
  const permitted = Buffer.from(permit.bodySha256).toString('hex');
  return permitted === sha256 ? undefined : `a body with SHA-256 ${permitted.slice(0, 64)}, and ${sha256} came`;
}

function entryOf(
  { kind, state, body }: ReceivedState,
  verified: VerifiedStatement | undefined,
): Omit<AuditEntry, 'event'> {
  return {
    controllerId: verified?.statement.controllerId ?? '',
    keyId: verified?.signer?.keyId ?? '',
    capability: kind,
    summary: {
      action: 'desired_state',
      generation: String(state.generation),
      ...(kind === 'programs' ? programStateSummary(body) : {}),
    },
  };
}

function receivedEntry({ kind, state, body }: ReceivedState): AuditEntry {
  return {
    event: 'received',
    capability: kind,
    summary: {
      action: 'desired_state',
      generation: String(state.generation),
      base_generation: String(state.baseGeneration),
      payload_bytes: body.length,
      payload_sha256: hash('sha256', body),
      key_ids: (state.statement?.signatures ?? []).slice(0, 8).map((signature) => signature.keyId.slice(0, 128)),
    },
  };
}

function refusedEntry(
  received: ReceivedState,
  verified: VerifiedStatement | undefined,
  refusal: LonglineError,
): AuditEntry {
  const entry = entryOf(received, verified);
  const summary = { ...entry.summary, refusal: refusal.message.slice(0, LONGEST_REFUSAL) };
  return { ...entry, event: 'refused', outcome: refusal.reason, rule: refusal.rule ?? '', summary };
}
