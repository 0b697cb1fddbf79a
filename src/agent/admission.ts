// Decides whether a command may be carried out on this host: identity (trust/), the job's form (capabilities/jobs), policy
// (policy/), and an audit record of the verdict before anything is done (audit/): it is written beside the journal. Refuses with the rule that decided; knows
// nothing of connections or the journal. If the verdict can't be recorded the command is refused as `unavailable` or `limit`.

import { hash } from 'node:crypto';
import { clone } from '@bufbuild/protobuf';
import type { Command } from '#gen/longline/link/v1/link_pb.js';
import type { JobSpec as JobSpecMessage } from '#gen/longline/v1/job_pb.js';
import type { SessionSpec as SessionSpecMessage } from '#gen/longline/v1/session_pb.js';
import { type Statement, StatementSchema } from '#gen/longline/v1/signature_pb.js';
import type { JobsConfig } from '../capabilities/jobs/config.ts';
import { parseJobSpec } from '../capabilities/jobs/spec.ts';
import type { SessionsConfig } from '../capabilities/sessions/config.ts';
import { parseSessionSpec } from '../capabilities/sessions/spec.ts';
import type { AgentNameplate } from '../core/agent-selector.ts';
import type { Clock } from '../core/clock.ts';
import { LonglineError, toLonglineError } from '../core/errors.ts';
import { refusalOf } from '../core/policy/evaluation.ts';
import type { PathView } from '../core/policy/mount-rules.ts';
import type { AdmittedCommand, CommandAdmission } from '../link/ports.ts';
import type { AuditEntry, AuditLog } from './audit/audit-log.ts';
import { jobSummary } from './audit/job-summary.ts';
import { programSummary } from './audit/program-summary.ts';
import { sessionSummary } from './audit/session-summary.ts';
import { sandboxRequestOf } from './policy/job-request.ts';
import type { PolicyStore } from './policy/policy-store.ts';
import { sessionRequestOf } from './policy/session-request.ts';
import { RecentNonces } from './trust/recent-nonces.ts';
import { DEFAULT_MAX_PAYLOAD_BYTES, type VerifiedStatement, verifyStatement } from './trust/statement-verification.ts';
import { jobOf, permitOf, serializedAction, sessionOf } from './trust/statement-view.ts';
import type { TrustStore } from './trust/trust-store.ts';

/** What admission is made from. */
export interface AdmissionParts {
  readonly trust: TrustStore;
  readonly policy: PolicyStore;
  readonly audit: AuditLog;
  readonly paths: PathView;
  readonly clock: Clock;
  readonly jobs: JobsConfig;
  readonly sessions: SessionsConfig;
  /** Id and effective labels of this agent, as far as the host knows them. */
  readonly nameplate: () => AgentNameplate;
  /** Patterns of controllers whose commands are taken; undefined for any that a trusted key speaks for. */
  readonly allowedControllers: () => readonly string[] | undefined;
  /** How far clocks may be apart. */
  readonly maxSkewMs: number;
}

/** Who asks for something. */
interface Asker {
  readonly capability: string;
  readonly controllerId: string;
  readonly keyId: string | undefined;
}

/** The gate before the journal. Calls may overlap. */
export class Admission implements CommandAdmission {
  readonly #parts: AdmissionParts;
  readonly #recent = new RecentNonces();

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  async admit(command: Command, nonceSeen: (nonce: Uint8Array) => boolean): Promise<AdmittedCommand> {
    const { audit } = this.#parts;
    const received = receivedEntry(command);
    let verified: VerifiedStatement | undefined;
    let admitted: Omit<AdmittedCommand, 'recorded'>;
    try {
      verified = this.#verify(command, nonceSeen);
      admitted = this.#judge(verified);
    } catch (error) {
      const refusal = toLonglineError(error);
      await audit.append(received, refusedEntry(command, verified, refusal, audit));
      throw refusal;
    }
    this.#recent.add(admitted.nonce, command.id, this.#parts.clock.monotonic());
    const recorded = audit.append(received, admittedEntry(command, verified, audit));
    // Whoever carries the command out waits for it; where nobody comes that far, its failure is no concern of the process.
    recorded.catch(() => undefined);
    return { ...admitted, recorded };
  }

  refused(command: Command, error: LonglineError): void {
    const { audit } = this.#parts;
    audit.note(receivedEntry(command), refusedEntry(command, undefined, error, audit));
  }

  #verify(command: Command, nonceSeen: (nonce: Uint8Array) => boolean): VerifiedStatement {
    const { trust, policy, clock, nameplate, allowedControllers, maxSkewMs } = this.#parts;
    return verifyStatement(command.statement, {
      limits: {
        maxPayloadBytes: DEFAULT_MAX_PAYLOAD_BYTES,
        maxLifetimeMs: policy.policy.signatures.maxLifetimeMs,
        maxSkewMs,
        allowedControllers: allowedControllers(),
      },
      agent: nameplate(),
      nowMs: clock.now(),
      findKey: (keyId) => trust.find(keyId),
      // The journal learns of a nonce after this returns; two commands with one nonce may be here at the same time.
      nonceSeen: (nonce) => nonceSeen(nonce) || this.#recent.usedByOther(nonce, command.id, clock.monotonic()),
    });
  }

  #judge(verified: VerifiedStatement): Omit<AdmittedCommand, 'recorded'> {
    const { statement, capability, signer, expiresAtMs } = verified;
    const request = { capability, controllerId: statement.controllerId, keyId: signer?.keyId };
    // First who may ask at all: a stranger learns nothing about the form of jobs here.
    const refusal = refusalOf(this.#parts.policy.evaluate({ ...request, job: undefined }));
    if (refusal !== undefined) throw refusal;
    if (permitOf(statement) !== undefined) throw permitAsCommand();
    const resolved = this.#withResolvedMounts(statement);
    const job = jobOf(resolved);
    if (job !== undefined) this.#judgeJob(job, request);
    const session = sessionOf(resolved);
    if (session !== undefined) this.#judgeSession(session, request);
    return {
      capability,
      action: serializedAction(resolved),
      nonce: statement.nonce,
      // A clock set back by the allowed skew must not let the statement in again.
      nonceExpiresAtMs: expiresAtMs + this.#parts.maxSkewMs,
    };
  }

  #judgeJob(message: JobSpecMessage, request: Asker): void {
    const job = sandboxRequestOf(parseJobSpec(message, this.#parts.jobs));
    const refusal = refusalOf(this.#parts.policy.evaluate({ ...request, job }));
    if (refusal !== undefined) throw refusal;
  }

  #judgeSession(message: SessionSpecMessage, request: Asker): void {
    const { sessions, policy } = this.#parts;
    const session = sessionRequestOf(parseSessionSpec(message, sessions), sessions);
    const refusal = refusalOf(policy.evaluate({ ...request, job: undefined, session }));
    if (refusal !== undefined) throw refusal;
  }

  /** What policy judges and the engine mounts is the path without links, so that a link changed later leads nowhere else. */
  #withResolvedMounts(statement: Statement): Statement {
    const mounts = mountsOf(statement);
    if (!mounts.some(({ source }) => source.startsWith('/'))) return statement;
    const copy = clone(StatementSchema, statement);
    for (const mount of mountsOf(copy)) {
      if (mount.source.startsWith('/')) mount.source = this.#parts.paths.resolve(mount.source) ?? mount.source;
    }
    return copy;
  }
}

function permitAsCommand(): LonglineError {
  const message =
    'the statement permits a desired state, and is nothing to carry out; send it as DesiredState.statement';
  return new LonglineError('unsupported', message, { rule: 'statement.action' });
}

function mountsOf(statement: Statement): { source: string }[] {
  return (jobOf(statement) ?? sessionOf(statement))?.mounts ?? [];
}

function receivedEntry(command: Command): AuditEntry {
  const payload = command.statement?.payload ?? new Uint8Array();
  return {
    event: 'received',
    commandId: command.id,
    summary: {
      seq: String(command.seq),
      payload_bytes: payload.length,
      payload_sha256: hash('sha256', payload),
      key_ids: (command.statement?.signatures ?? []).slice(0, 8).map((signature) => signature.keyId.slice(0, 128)),
    },
  };
}

function admittedEntry(command: Command, verified: VerifiedStatement, audit: AuditLog): AuditEntry {
  return { ...subjectOf(command, verified, audit), event: 'admitted', outcome: 'allowed' };
}

function refusedEntry(
  command: Command,
  verified: VerifiedStatement | undefined,
  refusal: LonglineError,
  audit: AuditLog,
): AuditEntry {
  const subject = verified === undefined ? { commandId: command.id } : subjectOf(command, verified, audit);
  return {
    ...subject,
    event: 'refused',
    outcome: refusal.reason,
    rule: refusal.rule ?? '',
    summary: { ...('summary' in subject ? subject.summary : {}), refusal: refusal.message.slice(0, 1024) },
  };
}

function subjectOf(command: Command, { statement, capability, signer }: VerifiedStatement, audit: AuditLog) {
  return {
    commandId: command.id,
    controllerId: statement.controllerId,
    keyId: signer?.keyId ?? '',
    capability,
    summary: summaryOf(statement, audit),
  };
}

function summaryOf(statement: Statement, audit: AuditLog): Readonly<Record<string, unknown>> {
  const job = jobOf(statement);
  if (job !== undefined) return jobSummary(job, (value) => audit.fingerprint(value));
  const action = statement.action?.action;
  if (action?.case === 'session') return sessionSummary(action.value);
  return action?.case === 'program' ? programSummary(action.value) : {};
}
