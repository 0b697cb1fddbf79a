// Making and reading X.509: the certificate of our CA, of its server, and of agents. Pure but for randomness; keys are
// ECDSA P-256. It knows no files and no storage.
// @peculiar/x509 wants it loaded before itself.
import 'reflect-metadata';

import { createPublicKey, randomBytes, type webcrypto, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralName,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  type PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { invalid } from '../../core/errors.ts';

type KeyPair = webcrypto.CryptoKeyPair;

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const MAX_REQUEST_BYTES = 16 * 1024;
/** Certificates begin this long ago, for hosts whose clock is behind. */
const BACKDATE_MS = 300_000;

/** A new key pair. */
export async function newKeyPair(): Promise<KeyPair> {
  return await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

/** A certificate authority as generators need it. */
export interface Issuer {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly subject: string;
  readonly publicKey: CryptoKey;
  readonly privateKey: CryptoKey;
}

/** What differs between the certificates we issue. */
export interface CertificateRequestFacts {
  readonly commonName: string;
  readonly names: readonly JsonGeneralName[];
  readonly usage: 'server' | 'client';
  readonly publicKey: PublicKey | CryptoKey;
  readonly nowMs: number;
  readonly lifetimeMs: number;
}

/** DER of a self-signed CA certificate that may sign leaves only. */
export async function issueAuthority(
  keys: KeyPair,
  name: string,
  nowMs: number,
  lifetimeMs: number,
): Promise<Uint8Array> {
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [name] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + lifetimeMs),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return new Uint8Array(certificate.rawData);
}

/** DER of a leaf certificate. */
export async function issueLeaf(issuer: Issuer, facts: CertificateRequestFacts): Promise<Uint8Array> {
  const usage = facts.usage === 'server' ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth;
  const extensions: Extension[] = [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension([usage], false),
    new SubjectAlternativeNameExtension([...facts.names], false),
    await SubjectKeyIdentifierExtension.create(facts.publicKey),
    await AuthorityKeyIdentifierExtension.create(issuer.publicKey),
  ];
  const certificate = await X509CertificateGenerator.create({
    serialNumber: newSerial(),
    // X.520 bounds a common name to 64 characters; identity is in the subject alternative name.
    subject: [{ CN: [facts.commonName.slice(0, 64)] }],
    issuer: issuer.subject,
    notBefore: new Date(facts.nowMs - BACKDATE_MS),
    notAfter: new Date(facts.nowMs + facts.lifetimeMs),
    publicKey: facts.publicKey,
    signingKey: issuer.privateKey,
    signingAlgorithm: ALGORITHM,
    extensions,
  });
  return new Uint8Array(certificate.rawData);
}

/** Names for a server: DNS names and IP addresses, told apart by form. */
export function serverNames(hosts: Iterable<string>): JsonGeneralName[] {
  return [...new Set(hosts)].map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }));
}

/** Serial number as stored and compared: lower-case hex without leading zeros. */
export function serialOf(certificate: X509Certificate): string {
  return certificate.serialNumber.toLowerCase().replace(/^0+/, '');
}

/** PEM of DER. */
export function certificatePem(der: Uint8Array): string {
  return new X509Certificate(der).toString();
}

/** A checked PKCS#10 request. */
export interface CheckedRequest {
  readonly publicKey: PublicKey;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeyDer: Uint8Array;
}

/** Checks form, signature and key of a PKCS#10 request (DER). Throws `invalid` naming the field. */
export async function checkCertificateRequest(der: Uint8Array): Promise<CheckedRequest> {
  const refuse = (why: string) => invalid([{ field: 'certificate_request', description: why }]);
  if (der.length === 0) throw refuse('is missing; send a PKCS#10 request in DER');
  if (der.length > MAX_REQUEST_BYTES)
    throw refuse(`is ${der.length} bytes long; at most ${MAX_REQUEST_BYTES} are taken`);
  let request: Pkcs10CertificateRequest;
  try {
    request = new Pkcs10CertificateRequest(new Uint8Array(der));
  } catch {
    throw refuse('is no PKCS#10 request in DER');
  }
  const publicKeyDer = new Uint8Array(request.publicKey.rawData);
  const weakness = keyWeakness(publicKeyDer);
  if (weakness !== undefined) throw refuse(weakness);
  if (!(await request.verify().catch(() => false))) throw refuse('is not signed with the key it names');
  return { publicKey: request.publicKey, publicKeyDer };
}

const CURVES = new Set(['prime256v1', 'secp384r1']);

function keyWeakness(publicKeyDer: Uint8Array): string | undefined {
  const wanted = 'use ECDSA P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits';
  try {
    const key = createPublicKey({ key: Buffer.from(publicKeyDer), format: 'der', type: 'spki' });
    const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
    if (key.asymmetricKeyType === 'ed25519') return undefined;
    if (key.asymmetricKeyType === 'ec')
      return CURVES.has(namedCurve) ? undefined : `has a key on curve ${namedCurve}; ${wanted}`;
    if (key.asymmetricKeyType !== 'rsa') return `has a key of type ${key.asymmetricKeyType}; ${wanted}`;
    return modulusLength >= 2048 && modulusLength <= 4096
      ? undefined
      : `has an RSA key of ${modulusLength} bits; ${wanted}`;
  } catch {
    return `has a key of unknown type; ${wanted}`;
  }
}

function newSerial(): string {
  const bytes = randomBytes(16);
  // Positive and without a leading zero byte, so that its hex form is the same everywhere (RFC 5280, 4.1.2.2).
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes.toString('hex');
}
