// How a host becomes an agent and stays one: trades registration tokens for client certificates, and renews them. One
// implementation behind both stacks. It fails with the errors that EnrollmentService documents, and spends no use of a
// token unless the identity was stored in the same transaction.
import { createHash } from 'node:crypto';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { EnrollRequest, EnrollResponseSchema, RenewResponseSchema } from '#gen/longline/link/v1/enrollment_pb.js';
import type { Clock } from '../../core/clock.ts';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { AGENT_ID, isUuid } from '../../core/ids.ts';
import type { Logger } from '../../core/logger.ts';
import type { CertificateAuthority, SignedCertificate } from './certificate-authority.ts';
import { type CheckedRequest, checkCertificateRequest } from './certificates.ts';
import type { ControllerSigningKey } from './controller-signing-key.ts';
import type {
  AgentIdentity,
  AgentIdentityRepository,
  EnrollmentTokenRecord,
  EnrollmentTokenRepository,
  IssuedCertificate,
} from './ports.ts';
import { checkRoom, living, withCertificate } from './replica-certificates.ts';
import { hashSecret, sameHash } from './secrets.ts';

/** Client certificates live this long unless told otherwise. */
export const AGENT_CERTIFICATE_LIFETIME_MS = 24 * 3_600_000;
/** An enrolment whose answer was lost may be repeated with the same token for this long. */
const RETRY_WINDOW_MS = 10 * 60_000;
const MAX_TRIES = 5;

/** What enrolment is made from. */
export interface EnrollmentOptions {
  readonly tokens: EnrollmentTokenRepository;
  readonly identities: AgentIdentityRepository;
  readonly authority: CertificateAuthority;
  readonly signingKey: ControllerSigningKey;
  readonly clock: Clock;
  readonly log: Logger;
  readonly certificateLifetimeMs?: number;
}

/** What an agent asks with. */
type Application = Pick<EnrollRequest, 'token' | 'agentId' | 'certificateRequest' | 'instanceId'>;

/** A replica of an agent, and what it proved to be one with. */
export interface RenewingAgent {
  readonly agentId: string;
  readonly serial: string;
}

/** Decides on identities and signs their certificates. */
export class Enrollment {
  readonly #options: EnrollmentOptions;
  readonly #lifetimeMs: number;

  constructor(options: EnrollmentOptions) {
    this.#options = options;
    this.#lifetimeMs = options.certificateLifetimeMs ?? AGENT_CERTIFICATE_LIFETIME_MS;
  }

  /** EnrollmentService.Enroll. */
  async enroll(application: Application): Promise<MessageInitShape<typeof EnrollResponseSchema>> {
    checkApplication(application);
    const { agentId } = application;
    const token = await this.#usableToken(application);
    const request = await checkCertificateRequest(application.certificateRequest);
    const { authority, identities, signingKey, clock, log } = this.#options;
    const certificate = await authority.signAgent(agentId, request, this.#lifetimeMs);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const found = await identities.find(agentId);
      const { identity, spend } = this.#admit(found, application, token, request, certificate);
      const spendTokenId = spend ? token.id : undefined;
      const outcome = await identities.save({ identity, spendTokenId, nowMs: clock.now() });
      if (outcome === 'token_spent') throw spent();
      if (outcome === 'conflict') continue;
      log.info('agent enrolled', {
        agentId,
        instanceId: application.instanceId,
        tokenId: token.id,
        serial: certificate.serial,
        again: found !== undefined,
      });
      return {
        ...this.#grant(certificate),
        controllerId: authority.controllerId,
        controllerKeys: [{ keyId: signingKey.keyId, publicKey: signingKey.publicKey }],
        labels: { ...token.labels },
      };
    }
    throw contended(agentId);
  }

  /** EnrollmentService.Renew for a replica of an agent that was authenticated by the certificate of this serial number. */
  async renew(
    { agentId, serial }: RenewingAgent,
    certificateRequest: Uint8Array,
  ): Promise<MessageInitShape<typeof RenewResponseSchema>> {
    const request = await checkCertificateRequest(certificateRequest);
    const { authority, identities, clock, log } = this.#options;
    const certificate = await authority.signAgent(agentId, request, this.#lifetimeMs);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const found = await identities.find(agentId);
      if (found === undefined || found.revoked) {
        throw new LonglineError('identity', `agent ${agentId} was revoked or deleted; it can't renew its certificate`);
      }
      const current = found.certificates.find((issued) => issued.serial === serial);
      if (current === undefined) {
        throw new LonglineError(
          'identity',
          `this replica of agent ${agentId} was revoked; it can't renew its certificate`,
        );
      }
      const { instanceId, tokenId } = current;
      const identity: AgentIdentity = {
        ...found,
        publicKeyHash: keyHash(request),
        certificates: this.#accepted(found.certificates, { ...certificate, instanceId, tokenId }),
        version: found.version + 1,
      };
      const outcome = await identities.save({ identity, spendTokenId: undefined, nowMs: clock.now() });
      if (outcome !== 'saved') continue;
      log.info('agent certificate renewed', { agentId, instanceId, serial: certificate.serial });
      return this.#grant(certificate);
    }
    throw contended(agentId);
  }

  async #usableToken({ token, agentId }: Application): Promise<EnrollmentTokenRecord> {
    const hash = hashSecret(token);
    const record = await this.#options.tokens.findByHash(hash);
    if (record === undefined || !sameHash(record.secretHash, hash)) {
      throw new LonglineError(
        'identity',
        'token: is unknown to this controller; make one with "longline token create"',
      );
    }
    if (record.revoked)
      throw new LonglineError('identity', 'token: was revoked; make a new one with "longline token create"');
    if (record.expiresAtMs <= this.#options.clock.now()) {
      const ended = new Date(record.expiresAtMs).toISOString();
      throw new LonglineError('identity', `token: ended at ${ended}; make a new one with "longline token create"`);
    }
    if (record.agentId !== '' && record.agentId !== agentId) {
      throw new LonglineError('identity', `token: is bound to another agent id than ${agentId}`);
    }
    return record;
  }

  /** The identity to store, and whether it costs a use of the token. Throws if this application may not have it. */
  #admit(
    found: AgentIdentity | undefined,
    application: Application,
    token: EnrollmentTokenRecord,
    request: CheckedRequest,
    certificate: SignedCertificate,
  ): { readonly identity: AgentIdentity; readonly spend: boolean } {
    const nowMs = this.#options.clock.now();
    const { agentId, instanceId } = application;
    const publicKeyHash = keyHash(request);
    const claim = {
      agentId,
      instanceId,
      labels: token.labels,
      enrollmentTokenId: token.id,
      publicKeyHash,
      revoked: false,
    };
    const added = { ...certificate, instanceId, tokenId: token.id };
    if (found === undefined) {
      const certificates = this.#accepted([], added);
      const identity = { ...claim, enrolledAtMs: nowMs, certificates, apiKeyHash: undefined, version: 1 };
      return { identity, spend: true };
    }
    if (found.revoked) {
      throw new LonglineError(
        'wrong_state',
        `agent_id: ${agentId} was revoked; delete that agent before the id is used again`,
      );
    }
    const sameKey = found.publicKeyHash !== undefined && sameHash(found.publicKeyHash, publicKeyHash);
    const alive = living(found.certificates, nowMs);
    const others = alive.filter((issued) => issued.instanceId !== instanceId);
    const own = alive.filter((issued) => issued.instanceId === instanceId);
    // A renewal adds a certificate: who renewed has had the answer, and the newest certificate no longer tells its age.
    const unanswered = sameKey || own.length === 1;
    const repeated = unanswered && own.at(-1)?.tokenId === token.id && this.#isRecent(own.at(-1)!, nowMs);
    const live = found.apiKeyHash !== undefined || alive.length > 0;
    // Whoever made a token for this very id wants it to have another replica.
    if (live && !sameKey && !repeated && token.agentId !== agentId) {
      throw new LonglineError(
        'already_exists',
        `agent_id: ${agentId} belongs to a live agent with another key; choose another id, revoke and delete that agent first, ` +
          `or, if this is to be a replica of it, enrol with a token that is bound to it ("longline token create --agent-id ${agentId}")`,
      );
    }
    checkRoom(agentId, others);
    const certificates = this.#accepted(sameKey ? alive : others, added);
    return { identity: { ...found, ...claim, certificates, version: found.version + 1 }, spend: !repeated };
  }

  #isRecent({ expiresAtMs }: IssuedCertificate, nowMs: number): boolean {
    return expiresAtMs - this.#lifetimeMs + RETRY_WINDOW_MS > nowMs;
  }

  #accepted(before: readonly IssuedCertificate[], added: IssuedCertificate): readonly IssuedCertificate[] {
    const { serial, expiresAtMs, instanceId, tokenId } = added;
    return withCertificate(before, { serial, expiresAtMs, instanceId, tokenId }, this.#options.clock.now());
  }

  #grant(certificate: SignedCertificate) {
    return {
      certificateChain: [certificate.der],
      trustedCertificates: [this.#options.authority.certificate],
      expireTime: timestampFromMs(certificate.expiresAtMs),
    } satisfies MessageInitShape<typeof RenewResponseSchema>;
  }
}

function checkApplication({ token, agentId, instanceId }: Application): void {
  const violations: FieldViolation[] = [];
  if (token === '')
    violations.push({ field: 'token', description: 'is missing; send the secret part of a registration token' });
  if (!AGENT_ID.test(agentId)) {
    const description = `is ${JSON.stringify(agentId.slice(0, 140))}; it must be 1 to 128 characters of [A-Za-z0-9._-]`;
    violations.push({ field: 'agent_id', description });
  }
  if (!isUuid(instanceId)) {
    violations.push({
      field: 'instance_id',
      description: `is ${JSON.stringify(instanceId.slice(0, 60))}; it must be a UUID in lower case`,
    });
  }
  if (violations.length > 0) throw invalid(violations);
}

function keyHash(request: CheckedRequest): Uint8Array {
  return new Uint8Array(createHash('sha256').update(request.publicKeyDer).digest());
}

function spent(): LonglineError {
  return new LonglineError(
    'identity',
    'token: has no use left, or ended meanwhile; make a new one with "longline token create"',
  );
}

function contended(agentId: string): LonglineError {
  return new LonglineError('unavailable', `agent ${agentId} is being changed by others; try again`, {
    retryAfterMs: 1000,
  });
}
