// Makes the key that never leaves the host, and the request for a certificate over it.
import { webcrypto } from 'node:crypto';

/** A new ECDSA P-256 key (PKCS#8, PEM) and a PKCS#10 request (DER) that proves its possession. */
export interface KeyAndRequest {
  readonly privateKey: string;
  readonly request: Uint8Array;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** Makes a key and a certificate request with the agent id as common name. */
export async function makeKeyAndRequest(agentId: string): Promise<KeyAndRequest> {
  // Loaded only when needed: an agent that runs for months makes a request once a day.
  await import('reflect-metadata');
  const { Pkcs10CertificateRequestGenerator } = await import('@peculiar/x509');
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const request = await Pkcs10CertificateRequestGenerator.create(
    { name: [{ CN: [agentId] }], keys, signingAlgorithm: ALGORITHM },
    webcrypto as Crypto,
  );
  const der = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { privateKey: pem('PRIVATE KEY', new Uint8Array(der)), request: new Uint8Array(request.rawData) };
}

/** DER as PEM. */
export function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
