// Whether a tunnel may be opened: statement, signature and policy, as for commands, and a record of it either way. A
// statement has to name the very session and target that are asked for. Nonces are kept in memory for as long as their
// statements live; so that a restart opens no gap, a statement from before this process is refused, and is signed anew.
import { equals } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { OpenTunnel } from '#gen/longline/link/v1/link_pb.js';
import type { OpenSessionTunnel } from '#gen/longline/v1/session_pb.js';
import type { Statement } from '#gen/longline/v1/signature_pb.js';
import { TunnelAttachSchema, TunnelExecSchema } from '#gen/longline/v1/tunnel_pb.js';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { refusalOf } from '../../core/policy/evaluation.ts';
import type { SessionFacts } from '../../core/session-access.ts';
import type { AdmissionParts } from '../admission.ts';
import type { AuditEntry } from '../audit/audit-log.ts';
import { DEFAULT_MAX_PAYLOAD_BYTES, type VerifiedStatement, verifyStatement } from '../trust/statement-verification.ts';
import type { TunnelJudge } from './session-targets.ts';

/** What it is made from. */
export type TunnelAdmissionParts = Pick<
  AdmissionParts,
  'trust' | 'policy' | 'audit' | 'clock' | 'nameplate' | 'allowedControllers' | 'maxSkewMs'
>;

const CAPABILITY = 'sessions';
const MAX_NONCES = 65_536;
const LONGEST_WORD = 256;

/** The gate before tunnels. */
export class TunnelAdmission implements TunnelJudge {
  readonly #parts: TunnelAdmissionParts;
  readonly #startedMs: number;
  /** Nonces in use, with the end of their statements. */
  readonly #nonces = new Map<string, number>();

  constructor(parts: TunnelAdmissionParts) {
    this.#parts = parts;
    this.#startedMs = parts.clock.now();
  }

  async admit(ask: OpenTunnel, session: SessionFacts | undefined): Promise<() => void> {
    const { audit } = this.#parts;
    let verified: VerifiedStatement | undefined;
    try {
      verified = ask.statement === undefined ? undefined : this.#verify(ask);
      this.#judge(ask, session, verified);
    } catch (error) {
      const refusal = toLonglineError(error);
      const why = { outcome: refusal.reason, rule: refusal.rule ?? '' };
      const summary = { ...summaryOf(ask), refusal: refusal.message.slice(0, 1024) };
      await audit.append({ ...entryOf(ask, verified), event: 'refused', ...why, summary });
      throw refusal;
    }
    await audit.append({ ...entryOf(ask, verified), event: 'admitted', outcome: 'allowed', summary: summaryOf(ask) });
    return () => this.#judgeAgain(ask, session, verified);
  }

  ended(ask: OpenTunnel, outcome: string): void {
    this.#parts.audit.note({ ...entryOf(ask, undefined), event: 'ended', outcome, summary: summaryOf(ask) });
  }

  #verify(ask: OpenTunnel): VerifiedStatement {
    const { trust, policy, clock, nameplate, allowedControllers, maxSkewMs } = this.#parts;
    const nowMs = clock.now();
    const verified = verifyStatement(ask.statement, {
      limits: {
        maxPayloadBytes: DEFAULT_MAX_PAYLOAD_BYTES,
        maxLifetimeMs: policy.policy.signatures.maxLifetimeMs,
        maxSkewMs,
        allowedControllers: allowedControllers(),
      },
      agent: nameplate(),
      nowMs,
      findKey: (keyId) => trust.find(keyId),
      nonceSeen: (nonce) => this.#nonces.has(keyOf(nonce)),
    });
    checkMeant(ask, tunnelOf(verified.statement));
    this.#checkFresh(verified.statement);
    this.#remember(verified, nowMs);
    return verified;
  }

  #checkFresh({ issueTime }: Statement): void {
    if (issueTime !== undefined && timestampMs(issueTime) + this.#parts.maxSkewMs >= this.#startedMs) return;
    const message =
      'the statement of a tunnel must be signed after the start of the agent, which remembers those it took';
    throw new LonglineError('stale', message, { rule: 'statement.issue_time' });
  }

  #remember({ statement, expiresAtMs }: VerifiedStatement, nowMs: number): void {
    for (const [key, endsMs] of this.#nonces) if (endsMs <= nowMs) this.#nonces.delete(key);
    if (this.#nonces.size >= MAX_NONCES) {
      throw new LonglineError('limit', `${MAX_NONCES} statements of tunnels are remembered already`);
    }
    this.#nonces.set(keyOf(statement.nonce), expiresAtMs + this.#parts.maxSkewMs);
  }

  /** Neither expiry nor nonce matter for what is open; the key and the rules do. */
  #judgeAgain(ask: OpenTunnel, session: SessionFacts | undefined, verified: VerifiedStatement | undefined): void {
    const keyId = verified?.signer?.keyId;
    if (keyId !== undefined && this.#parts.trust.find(keyId) === undefined) {
      throw new LonglineError('policy', `key ${keyId}, which allowed the tunnel, is no longer trusted here`, {
        rule: 'statement.signatures',
      });
    }
    this.#judge(ask, session, verified);
  }

  #judge(ask: OpenTunnel, session: SessionFacts | undefined, verified: VerifiedStatement | undefined): void {
    const request = {
      capability: CAPABILITY,
      controllerId: verified?.statement.controllerId ?? '',
      keyId: verified?.signer?.keyId,
      job: undefined,
      tunnel: { kind: ask.process.case ?? 'port', other: otherUser(ask, session) },
    } as const;
    const refusal = refusalOf(this.#parts.policy.evaluate(request));
    if (refusal !== undefined) throw refusal;
  }
}

/** Whom a command is to run as, unless that is the session's user, which the policy let be when the session was started. */
function otherUser({ sessionId, process }: OpenTunnel, session: SessionFacts | undefined) {
  const user = process.case === 'exec' ? process.value.user : '';
  if (user === '') return undefined;
  if (session === undefined) throw new LonglineError('not_found', `session ${sessionId} is not on this agent`);
  return user === session.user ? undefined : { user, image: session.image };
}

function tunnelOf({ action }: Statement): OpenSessionTunnel {
  const chosen = action?.action;
  if (chosen?.case === 'session' && chosen.value.action.case === 'tunnel') return chosen.value.action.value;
  throw new LonglineError('invalid', 'the statement of a tunnel allows something else', { rule: 'statement.action' });
}

/** Throws `policy` unless the statement names what is asked for. A first size of a terminal is nobody's concern. */
function checkMeant({ sessionId, port, process }: OpenTunnel, { sessionId: meant, target }: OpenSessionTunnel): void {
  const chosen = target?.target;
  const same =
    process.case === undefined
      ? chosen?.case === 'port' && chosen.value === port
      : process.case === 'exec'
        ? chosen?.case === 'exec' && equals(TunnelExecSchema, sizeless(chosen.value), sizeless(process.value))
        : chosen?.case === 'attach' && equals(TunnelAttachSchema, sizeless(chosen.value), sizeless(process.value));
  if (same && sessionId === meant) return;
  throw new LonglineError('policy', `the statement allows another tunnel than the one into session ${sessionId}`, {
    rule: 'statement.action',
  });
}

function sizeless<T extends { size?: unknown }>(process: T): T {
  const { size: _, ...rest } = process;
  return rest as T;
}

function entryOf({ tunnelId }: OpenTunnel, verified: VerifiedStatement | undefined): Omit<AuditEntry, 'event'> {
  return {
    commandId: tunnelId.slice(0, LONGEST_WORD),
    controllerId: verified?.statement.controllerId ?? '',
    keyId: verified?.signer?.keyId ?? '',
    capability: CAPABILITY,
  };
}

/** Arguments and environment of a command may hold secrets: only its first word is told. */
function summaryOf({ sessionId, port, process, creator }: OpenTunnel): Readonly<Record<string, unknown>> {
  const whose = {
    action: 'tunnel',
    session_id: sessionId.slice(0, LONGEST_WORD),
    creator: creator.slice(0, LONGEST_WORD),
  };
  if (process.case === undefined) return { ...whose, port };
  if (process.case === 'attach') return { ...whose, attach: true };
  const { argv, user } = process.value;
  const as = user === '' ? {} : { user: user.slice(0, LONGEST_WORD) };
  return { ...whose, ...as, exec: (argv[0] ?? '').slice(0, LONGEST_WORD) };
}

function keyOf(nonce: Uint8Array): string {
  return Buffer.from(nonce.buffer, nonce.byteOffset, nonce.byteLength).toString('latin1');
}
