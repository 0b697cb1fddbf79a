// Becoming an agent and staying one: the calls to EnrollmentService.
import { createHash } from 'node:crypto';
import { EnrollmentService } from '#gen/longline/link/v1/enrollment_pb.js';
import { parseEnrollmentToken } from '../../core/enrollment-token.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Tracer } from '../../core/tracer.ts';
import { callOnce } from '../../link/unary-call.ts';
import { makeKeyAndRequest, pem } from './certificate-request.ts';
import type { Credentials } from './credential-store.ts';
import { fetchPinnedAuthority } from './pinned-authority.ts';

const CALL_LIMIT_MS = 10_000;

/** Who asks. */
export interface EnrollmentApplicant {
  readonly controllerUrl: string;
  readonly agentId: string;
  readonly instanceId: string;
  readonly tracer?: Tracer | undefined;
}

/** What an enrolment gives. */
export interface EnrollmentGrant {
  readonly credentials: Credentials;
  readonly controllerId: string;
  readonly controllerKeys: readonly { readonly keyId: string; readonly publicKey: Uint8Array }[];
  readonly labels: Readonly<Record<string, string>>;
  readonly tokenSha256: string;
}

/** SHA-256 of a token, hex: what is kept of it. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token.trim()).digest('hex');
}

/** Trades a registration token for credentials. Errors as EnrollmentService.Enroll says, and `unavailable`. */
export async function enroll(
  applicant: EnrollmentApplicant,
  token: string,
  signal: AbortSignal,
): Promise<EnrollmentGrant> {
  const { secret, caSha256 } = parseEnrollmentToken(token);
  const url = new URL(applicant.controllerUrl);
  if (url.protocol !== 'https:') {
    throw new LonglineError(
      'invalid',
      `controller: ${applicant.controllerUrl} must be an https:// URL to enrol with a token; use an API key where TLS ends elsewhere`,
    );
  }
  const authority = await fetchPinnedAuthority(url, caSha256, signal);
  const { privateKey, request } = makeKeyAndRequest(applicant.agentId);
  const response = await callOnce(
    EnrollmentService.method.enroll,
    { token: secret, agentId: applicant.agentId, certificateRequest: request, instanceId: applicant.instanceId },
    { url: applicant.controllerUrl, credentials: { kind: 'anonymous', trustedCertificates: authority } },
    { limitMs: CALL_LIMIT_MS, signal, tracer: applicant.tracer },
  );
  return {
    credentials: { ...certificatesOf(response), privateKey },
    controllerId: response.controllerId,
    controllerKeys: response.controllerKeys,
    labels: response.labels,
    tokenSha256: hashToken(token),
  };
}

/** Trades the current credentials for new ones with a new key. Errors as EnrollmentService.Renew says, and `unavailable`. */
export async function renew(
  applicant: EnrollmentApplicant,
  current: Credentials,
  signal: AbortSignal,
): Promise<Credentials> {
  const { privateKey, request } = makeKeyAndRequest(applicant.agentId);
  const response = await callOnce(
    EnrollmentService.method.renew,
    { certificateRequest: request },
    { url: applicant.controllerUrl, credentials: { kind: 'certificate', ...current } },
    { limitMs: CALL_LIMIT_MS, signal, tracer: applicant.tracer },
  );
  return { ...certificatesOf(response), privateKey };
}

function certificatesOf(response: {
  readonly certificateChain: Uint8Array[];
  readonly trustedCertificates: Uint8Array[];
}): Omit<Credentials, 'privateKey'> {
  return {
    certificateChain: response.certificateChain.map((der) => pem('CERTIFICATE', der)).join(''),
    trustedCertificates: response.trustedCertificates.map((der) => pem('CERTIFICATE', der)).join(''),
  };
}
