// The controller's own certificate authority, kept in one private file of the data directory: key and certificate are
// written together, so that a crash leaves both or neither. It signs; who gets a certificate is decided elsewhere.
import { createHash, createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import {
  type CheckedRequest,
  certificatePem,
  type Issuer,
  issueAuthority,
  issueLeaf,
  newKeyPair,
  serialOf,
  serverNames,
} from './certificates.ts';
import type { DataDirectory } from './data-directory.ts';

const FILE = 'ca.pem';
const LIFETIME_MS = 10 * 365 * 86_400_000;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const;

/** A certificate that was just signed. */
export interface SignedCertificate {
  /** DER. */
  readonly der: Uint8Array;
  readonly serial: string;
  readonly expiresAtMs: number;
}

/** The authority that signs for one controller. */
export class CertificateAuthority {
  readonly controllerId: string;
  readonly #issuer: Issuer;
  readonly #clock: Clock;

  private constructor(controllerId: string, issuer: Issuer, clock: Clock) {
    this.controllerId = controllerId;
    this.#issuer = issuer;
    this.#clock = clock;
  }

  /** Reads the authority, or makes it. Throws `policy` if others may read its key, `invalid` if the file is damaged. */
  static async open(directory: DataDirectory, controllerId: string, clock: Clock): Promise<CertificateAuthority> {
    const stored = await directory.readPrivate(FILE);
    if (stored !== undefined) {
      return new CertificateAuthority(controllerId, await parseIssuer(stored.toString(), directory.file(FILE)), clock);
    }
    const keys = await newKeyPair();
    const name = `Longline CA ${controllerId}`;
    const der = await issueAuthority(keys, name, clock.now(), LIFETIME_MS);
    const text = `${await privateKeyPem(keys.privateKey)}${certificatePem(der)}`;
    await directory.writePrivate(FILE, text);
    return new CertificateAuthority(controllerId, await parseIssuer(text, directory.file(FILE)), clock);
  }

  /** The CA's certificate, DER. */
  get certificate(): Uint8Array {
    return this.#issuer.certificate;
  }

  /** The CA's certificate, PEM. */
  get certificatePem(): string {
    return certificatePem(this.#issuer.certificate);
  }

  /** SHA-256 of the CA's certificate (DER): what registration tokens pin. */
  get pin(): Uint8Array {
    return new Uint8Array(createHash('sha256').update(this.#issuer.certificate).digest());
  }

  /** Signs a client certificate that names an agent. */
  async signAgent(agentId: string, request: CheckedRequest, lifetimeMs: number): Promise<SignedCertificate> {
    return this.#signed({
      commonName: agentId,
      names: [{ type: 'url', value: agentUri(this.controllerId, agentId) }],
      usage: 'client',
      publicKey: request.publicKey,
      lifetimeMs,
    });
  }

  /** Signs a server certificate for these host names and addresses; gives key, certificate and CA as PEM. */
  async signServer(hosts: Iterable<string>, lifetimeMs: number): Promise<string> {
    const keys = await newKeyPair();
    const names = serverNames(hosts);
    const { der } = await this.#signed({
      commonName: 'longline-controller',
      names,
      usage: 'server',
      publicKey: keys.publicKey,
      lifetimeMs,
    });
    return `${await privateKeyPem(keys.privateKey)}${certificatePem(der)}${this.certificatePem}`;
  }

  /** True if the certificate was signed by this authority. Says nothing about its times. */
  signed(certificate: X509Certificate): boolean {
    return certificate.verify(createPublicKey(this.certificatePem));
  }

  async #signed(facts: Omit<Parameters<typeof issueLeaf>[1], 'nowMs'>): Promise<SignedCertificate> {
    const der = await issueLeaf(this.#issuer, { ...facts, nowMs: this.#clock.now() });
    const certificate = new X509Certificate(der);
    return { der, serial: serialOf(certificate), expiresAtMs: certificate.validToDate.getTime() };
  }
}

/** SPIFFE-style name of an agent. */
export function agentUri(controllerId: string, agentId: string): string {
  return `spiffe://${controllerId}/agent/${agentId}`;
}

/** The agent id that a certificate names, or undefined if it names no agent of this controller. */
export function agentIdOf(certificate: X509Certificate, controllerId: string): string | undefined {
  const match = /^URI:spiffe:\/\/([0-9a-f-]{36})\/agent\/([A-Za-z0-9._-]{1,128})$/.exec(
    certificate.subjectAltName ?? '',
  );
  return match !== null && match[1] === controllerId ? match[2] : undefined;
}

async function privateKeyPem(key: CryptoKey): Promise<string> {
  const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', key));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({
    format: 'pem',
    type: 'pkcs8',
  }) as string;
}

async function parseIssuer(text: string, path: string): Promise<Issuer> {
  try {
    const certificate = new X509Certificate(text.slice(text.indexOf('-----BEGIN CERTIFICATE-----')));
    const privateKey = createPrivateKey(text);
    if (!certificate.checkPrivateKey(privateKey)) throw new Error('key and certificate do not belong together');
    const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' }) as Buffer<ArrayBuffer>;
    const spki = certificate.publicKey.export({ format: 'der', type: 'spki' }) as Buffer<ArrayBuffer>;
    return {
      certificate: new Uint8Array(certificate.raw),
      subject: certificate.subject,
      publicKey: await crypto.subtle.importKey('spki', spki, ALGORITHM, true, ['verify']),
      privateKey: await crypto.subtle.importKey('pkcs8', pkcs8, ALGORITHM, false, ['sign']),
    };
  } catch (error) {
    throw new LonglineError(
      'invalid',
      `${path}: can't be read as the controller's CA: ${(error as Error).message}; restore it from a backup. Without it every agent has to enrol again`,
      { cause: error },
    );
  }
}
