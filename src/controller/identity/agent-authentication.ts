// Who calls on the agents' stack: by the client certificate of the connection, or, on the plaintext listener, by API key.
// Checked at connect and again for every call, so that a revocation takes effect without a restart.
import { X509Certificate } from 'node:crypto';
import type { Metadata, ServerUnaryCall } from '@grpc/grpc-js';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { AGENT_ID } from '../../core/ids.ts';
import { agentIdOf } from './certificate-authority.ts';
import { serialOf } from './certificates.ts';
import type { AgentIdentity, AgentIdentityRepository } from './ports.ts';
import { agentApiKeyOf, hashSecret, sameHash } from './secrets.ts';

/** An agent whose identity is proven. */
export type AuthenticatedAgent =
  | {
      readonly agentId: string;
      readonly via: 'certificate';
      readonly serial: string;
      /** The replica that the certificate was given to. */
      readonly instanceId: string;
    }
  | { readonly agentId: string; readonly via: 'api_key' };

/** One that showed a certificate. */
export type CertifiedAgent = Extract<AuthenticatedAgent, { readonly via: 'certificate' }>;

/** What is needed of a grpc-js call to tell who made it. */
export interface AgentCall {
  readonly metadata: Metadata;
  getAuthContext(): ReturnType<ServerUnaryCall<unknown, unknown>['getAuthContext']>;
}

/** What of a certificate is looked at for every call. */
interface CertificateFacts {
  readonly agentId: string | undefined;
  readonly serial: string;
  readonly endsAtMs: number;
}

/** Tells agents apart. All failures are `identity`. */
export class AgentAuthenticator {
  readonly #identities: AgentIdentityRepository;
  readonly #controllerId: string;
  readonly #clock: Clock;
  /** By the certificate's bytes as the connection holds them: parsing them costs more than all else of a call's beginning. */
  readonly #parsed = new WeakMap<Uint8Array, CertificateFacts>();

  constructor(identities: AgentIdentityRepository, controllerId: string, clock: Clock) {
    this.#identities = identities;
    this.#controllerId = controllerId;
    this.#clock = clock;
  }

  /** The agent that makes a call. */
  async authenticate(call: AgentCall): Promise<AuthenticatedAgent> {
    const raw = call.getAuthContext().sslPeerCertificate?.raw;
    if (raw !== undefined)
      return await this.#verify(this.#parsed.get(raw) ?? this.#parse(new X509Certificate(raw), raw));
    const [agentId] = call.metadata.get('longline-agent-id');
    const [authorization] = call.metadata.get('authorization');
    return await this.byApiKey(agentId?.toString() ?? '', authorization?.toString());
  }

  /**
   * The agent that a certificate names. Its chain must have been verified against our CA; its end is checked here, since
   * a resumed TLS session vouches for the chain only as of its first handshake.
   */
  async verify(certificate: X509Certificate): Promise<CertifiedAgent> {
    return await this.#verify(this.#parse(certificate, certificate.raw));
  }

  #parse(certificate: X509Certificate, raw: Uint8Array): CertificateFacts {
    const agentId = agentIdOf(certificate, this.#controllerId);
    const facts = { agentId, serial: serialOf(certificate), endsAtMs: certificate.validToDate.getTime() };
    this.#parsed.set(raw, facts);
    return facts;
  }

  async #verify({ agentId, serial, endsAtMs }: CertificateFacts): Promise<CertifiedAgent> {
    if (agentId === undefined)
      throw new LonglineError('identity', 'client certificate: names no agent of this controller');
    if (endsAtMs <= this.#clock.now()) throw expired(endsAtMs);
    const identity = await this.#known(agentId);
    const accepted = identity.certificates.find((issued) => issued.serial === serial);
    if (accepted === undefined) {
      throw new LonglineError(
        'identity',
        `client certificate: serial ${serial} is no longer accepted from agent ${agentId}; enrol again with a new token`,
      );
    }
    return { agentId, via: 'certificate', serial, instanceId: accepted.instanceId };
  }

  /** The agent of that id, if `authorization` is "Bearer" and its API key. */
  async byApiKey(agentId: string, authorization: string | undefined): Promise<AuthenticatedAgent> {
    if (!AGENT_ID.test(agentId)) {
      throw new LonglineError(
        'identity',
        'longline-agent-id: must name the agent with 1 to 128 characters of [A-Za-z0-9._-]',
      );
    }
    const hash = hashSecret(agentApiKeyOf(authorization));
    const stored = await this.#identities.find(agentId);
    // One message for unknown agent and wrong key: this listener must not tell which ids exist.
    if (stored?.apiKeyHash === undefined || !sameHash(stored.apiKeyHash, hash)) {
      throw new LonglineError('identity', `authorization: is not the API key of an agent ${agentId}`);
    }
    if (stored.revoked) throw revoked(agentId);
    return { agentId, via: 'api_key' };
  }

  async #known(agentId: string): Promise<AgentIdentity> {
    const identity = await this.#identities.find(agentId);
    if (identity === undefined) {
      throw new LonglineError('identity', `agent ${agentId} is unknown to this controller; enrol it with a new token`);
    }
    if (identity.revoked) throw revoked(agentId);
    return identity;
  }
}

/** Why a client certificate whose chain didn't verify is refused. `code` is OpenSSL's. */
export function unverified(certificate: X509Certificate, code: string): LonglineError {
  if (code === 'CERT_HAS_EXPIRED') return expired(certificate.validToDate.getTime());
  return new LonglineError(
    'identity',
    `client certificate: was not issued by this controller's CA (${code}); enrol here, or connect without a client certificate`,
  );
}

function expired(endsAtMs: number): LonglineError {
  const ended = new Date(endsAtMs).toISOString();
  return new LonglineError('identity', `client certificate: ended at ${ended}; enrol again with a new token`);
}

function revoked(agentId: string): LonglineError {
  return new LonglineError('identity', `agent ${agentId} was revoked`);
}
