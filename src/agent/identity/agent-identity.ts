// Who this agent is towards its controller: enrols when it must, renews in time, and offers the credentials for each
// connection. A renewed certificate is only trusted once a connection with it worked; until then the old one is kept,
// and both are tried in turn (a bad renewal must not strand the host).

import { Backoff } from '../../core/backoff.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { LinkTarget, TargetSource } from '../../link/ports.ts';
import { CredentialStore, type StoredCredentials } from './credential-store.ts';
import { type EnrollmentGrant, enroll, hashToken, renew } from './enrollment.ts';

/** Fraction of a certificate's life after which it is renewed. */
const RENEW_AT = 2 / 3;
/** Renewal is looked at no more often than this. */
const SHORTEST_CHECK_MS = 1_000;
const LONGEST_CHECK_MS = 3_600_000;

/** What an identity is made from. */
export interface IdentityOptions {
  readonly folder: string;
  readonly controllerUrl: string;
  readonly agentId: string;
  readonly instanceId: string;
  readonly bootId: string;
  /** Epoch of this replica; 0 where there never was a leader election. Throws if it doesn't lead. */
  readonly leaderEpoch: () => bigint;
  /** Registration token; used only when there is no valid certificate for this controller and id. */
  readonly token: string | undefined;
  /** Instead of a certificate: 64 hex characters. */
  readonly apiKey: string | undefined;
  /** PEM; for an API key over TLS with a private CA. */
  readonly trustedCertificates: () => Promise<string | undefined>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer?: Tracer | undefined;
  /** Called after an enrolment, before it is stored: the place to take over the controller's signing keys. */
  readonly onEnrolled: (grant: EnrollmentGrant) => Promise<void>;
}

/** The agent's credentials over time. */
export class AgentIdentity implements TargetSource {
  readonly #options: IdentityOptions;
  readonly #store: CredentialStore;
  #current: StoredCredentials | undefined;
  #candidate: StoredCredentials | undefined;
  #offers = 0;

  constructor(options: IdentityOptions) {
    this.#options = options;
    this.#store = new CredentialStore(options.folder);
  }

  /** End of the current certificate, milliseconds since the epoch; undefined with an API key. */
  get expiresAtMs(): number | undefined {
    return this.#current?.expiresAtMs;
  }

  /** The life of the newest certificate, milliseconds since the epoch; undefined with an API key. */
  get certificateLife(): { readonly obtainedAtMs: number; readonly expiresAtMs: number } | undefined {
    return this.#candidate ?? this.#current;
  }

  /** When the next renewal is due, milliseconds from now; undefined with an API key. */
  get renewalDueInMs(): number | undefined {
    return this.#options.apiKey === undefined ? this.#renewalDueInMs() : undefined;
  }

  /** The controller's id as learnt at enrolment; undefined with an API key. */
  get controllerId(): string | undefined {
    return this.#store.facts.controllerId;
  }

  /** Labels bound to the registration token. */
  get labels(): Readonly<Record<string, string>> {
    return this.#store.facts.labels ?? {};
  }

  /** Reads what is stored and enrols if that isn't enough. Retries while the controller can't be reached. */
  async open(signal: AbortSignal): Promise<void> {
    if (this.#options.apiKey !== undefined) return;
    await this.#store.open();
    await this.#load();
    const lack = this.#lack();
    if (lack === undefined) return;
    const { token, clock, log } = this.#options;
    if (token === undefined) {
      throw new LonglineError(
        'identity',
        `${lack}; start the agent with --token TOKEN (make one with "longline token create")`,
      );
    }
    if (this.#store.facts.tokenSha256 === hashToken(token) && this.#current !== undefined) {
      throw new LonglineError('identity', `${lack}, and the token given was used before; make a new one`);
    }
    const backoff = new Backoff({ baseMs: 500, capMs: 15_000 });
    for (;;) {
      try {
        return await this.#enroll(token, signal);
      } catch (error) {
        if (!(error instanceof LonglineError) || !error.retryable) throw error;
        const waitMs = backoff.next(error.retryAfterMs);
        log.warn('enrolment failed; trying again', { err: describeError(error), waitMs: Math.round(waitMs) });
        await clock.sleep(waitMs, signal);
      }
    }
  }

  /** Renews at 2/3 of each certificate's life until the signal aborts. Calls `onRenewed` so that the link reconnects. */
  async keepRenewed(onRenewed: () => void, signal: AbortSignal): Promise<void> {
    if (this.#options.apiKey !== undefined) return;
    const { clock, log } = this.#options;
    const backoff = new Backoff({ baseMs: 1_000, capMs: 300_000 });
    for (;;) {
      const dueInMs = this.#renewalDueInMs();
      if (dueInMs > 0) {
        await clock.sleep(Math.min(Math.max(dueInMs, SHORTEST_CHECK_MS), LONGEST_CHECK_MS), signal);
        continue;
      }
      try {
        const renewed = await renew(this.#options, this.#current!, signal);
        await this.#store.propose(renewed);
        await this.#load();
        backoff.reset();
        log.info('certificate renewed', { expiresAt: new Date(this.#candidate!.expiresAtMs).toISOString() });
        onRenewed();
        // Whatever the certificate says of its life: a controller is not asked again at once.
        await clock.sleep(SHORTEST_CHECK_MS, signal);
      } catch (error) {
        signal.throwIfAborted();
        const waitMs = backoff.next(SHORTEST_CHECK_MS);
        log.warn('certificate renewal failed; trying again', {
          err: describeError(error),
          waitMs: Math.round(waitMs),
          expiresAt: new Date(this.#current!.expiresAtMs).toISOString(),
        });
        await clock.sleep(waitMs, signal);
      }
    }
  }

  /**
   * For a replica that stands by, whose certificate must not lapse meanwhile: renews it if that is due. A renewal over a
   * candidate proves it as well as a connection. Throws what stood in the way.
   */
  async renewIfDue(signal: AbortSignal): Promise<void> {
    if (this.#options.apiKey !== undefined || this.#renewalDueInMs() > 0) return;
    const offered = this.#candidate ?? this.#current!;
    const renewed = await renew(this.#options, offered, signal);
    if (offered === this.#candidate) await this.#store.promote(offered.set);
    await this.#store.propose(renewed);
    await this.#load();
    this.#options.log.info('certificate renewed', { expiresAt: new Date(this.#candidate!.expiresAtMs).toISOString() });
  }

  async current(): Promise<LinkTarget> {
    const { controllerUrl: url, agentId, instanceId, bootId, apiKey, trustedCertificates } = this.#options;
    const target = { url, agentId, instanceId, bootId, leaderEpoch: this.#options.leaderEpoch() };
    if (apiKey !== undefined) {
      return { ...target, credentials: { kind: 'api_key', apiKey, trustedCertificates: await trustedCertificates() } };
    }
    // The candidate first, then in turn with the current set until one of them is proven.
    const offered = this.#candidate !== undefined && this.#offers++ % 2 === 0 ? this.#candidate : this.#current;
    if (offered === undefined) throw new LonglineError('identity', 'the agent has no certificate; it must enrol first');
    const { certificateChain, privateKey, trustedCertificates: ca } = offered;
    return {
      ...target,
      credentials: { kind: 'certificate', certificateChain, privateKey, trustedCertificates: ca },
    };
  }

  proven(target: LinkTarget): void {
    const candidate = this.#candidate;
    if (candidate === undefined || target.credentials.kind !== 'certificate') return;
    if (target.credentials.certificateChain !== candidate.certificateChain) return;
    this.#current = candidate;
    this.#candidate = undefined;
    this.#store.promote(candidate.set).catch((error: unknown) => {
      // Both sets stay on disk, so the next start tries both again.
      this.#options.log.error('could not drop the old certificate', { err: describeError(error) });
    });
  }

  async #enroll(token: string, signal: AbortSignal): Promise<void> {
    const { agentId, controllerUrl, log, onEnrolled } = this.#options;
    const grant = await enroll(this.#options, token, signal);
    await onEnrolled(grant);
    await this.#store.replace(grant.credentials, {
      agentId,
      controllerUrl,
      controllerId: grant.controllerId,
      tokenSha256: grant.tokenSha256,
      labels: grant.labels,
    });
    await this.#load();
    log.info('enrolled', { agentId, controllerId: grant.controllerId });
  }

  async #load(): Promise<void> {
    this.#current = await this.#store.current();
    this.#candidate = await this.#store.candidate();
    this.#offers = 0;
  }

  /** Why the stored certificate can't be used; undefined if it can. */
  #lack(): string | undefined {
    const { agentId, folder, clock } = this.#options;
    const stored = this.#store.facts;
    if (this.#current === undefined) return `the agent isn't enrolled yet (no certificate in ${folder})`;
    if (stored.agentId !== agentId) {
      return `the certificate in ${folder} is for agent ${stored.agentId}, not for ${agentId}`;
    }
    const newest = Math.max(this.#current.expiresAtMs, this.#candidate?.expiresAtMs ?? 0);
    if (newest <= clock.now()) return `the agent's certificate ended at ${new Date(newest).toISOString()}`;
    return undefined;
  }

  #renewalDueInMs(): number {
    // While a candidate waits to be proven there is nothing to renew.
    const newest = this.#candidate ?? this.#current!;
    const dueAt = newest.obtainedAtMs + (newest.expiresAtMs - newest.obtainedAtMs) * RENEW_AT;
    return dueAt - this.#options.clock.now();
  }
}
