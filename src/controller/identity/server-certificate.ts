// The certificate that the controller's TLS port shows: made when missing, renewed at 2/3 of its life, made anew when the
// names it must carry change, and taken over when somebody replaces the file with another of our CA (agents trust no
// other). A file that can't be used is refused and the one in use stays.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { createSecureContext } from 'node:tls';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import type { DataDirectory } from './data-directory.ts';

const FILE = 'server.pem';
const RENEW_AT = 2 / 3;
/** Server certificates live this long unless told otherwise. */
export const SERVER_CERTIFICATE_LIFETIME_MS = 90 * 86_400_000;

/** What is needed to keep the certificate. */
export interface ServerCertificateOptions {
  readonly directory: DataDirectory;
  readonly authority: CertificateAuthority;
  /** Host names and addresses it must be good for. */
  readonly hosts: readonly string[];
  readonly clock: Clock;
  readonly lifetimeMs?: number;
}

/** PEM of key and chain, and when it ends. */
export interface ServerCredentials {
  /** Key, leaf and CA, PEM. */
  readonly pem: string;
  readonly expiresAtMs: number;
}

/** The server certificate over time. */
export class ServerCertificate {
  readonly #options: ServerCertificateOptions;
  #current: ServerCredentials | undefined;

  constructor(options: ServerCertificateOptions) {
    this.#options = options;
  }

  /** The credentials to use now; reads or makes them on the first call. */
  async current(): Promise<ServerCredentials> {
    return this.#current ?? (await this.refresh()) ?? this.#current!;
  }

  /** Looks at file and age. Gives new credentials if there are some, undefined if those in use go on. */
  async refresh(): Promise<ServerCredentials | undefined> {
    const stored = (await this.#options.directory.readPrivate(FILE))?.toString();
    if (stored !== undefined && stored === this.#current?.pem && !this.#isDue(stored)) return undefined;
    if (stored !== undefined && stored !== this.#current?.pem && !this.#isDue(stored)) {
      this.#current = { pem: stored, expiresAtMs: leafOf(stored).validToDate.getTime() };
      return this.#current;
    }
    const { authority, hosts, directory, lifetimeMs = SERVER_CERTIFICATE_LIFETIME_MS } = this.#options;
    const pem = await authority.signServer(hosts, lifetimeMs);
    await directory.writePrivate(FILE, pem);
    this.#current = { pem, expiresAtMs: leafOf(pem).validToDate.getTime() };
    return this.#current;
  }

  #isDue(pem: string): boolean {
    const leaf = this.#usable(pem);
    const from = leaf.validFromDate.getTime();
    const renewAtMs = from + (leaf.validToDate.getTime() - from) * RENEW_AT;
    const covers = (host: string) => (isIP(host) === 0 ? leaf.checkHost(host) : leaf.checkIP(host)) !== undefined;
    const { authority, hosts, clock } = this.#options;
    return clock.now() >= renewAtMs || !authority.signed(leaf) || !hosts.every(covers);
  }

  #usable(pem: string): X509Certificate {
    try {
      const leaf = leafOf(pem);
      if (!leaf.checkPrivateKey(createPrivateKey(pem))) throw new Error('key and certificate do not belong together');
      // All that follows the leaf is shown too.
      createSecureContext({ key: pem, cert: chainOf(pem) });
      return leaf;
    } catch (error) {
      throw new LonglineError(
        'invalid',
        `${this.#options.directory.file(FILE)}: can't be read as key and certificate: ${(error as Error).message}; remove it to have a new one made`,
        { cause: error },
      );
    }
  }
}

function leafOf(pem: string): X509Certificate {
  return new X509Certificate(chainOf(pem));
}

function chainOf(pem: string): string {
  return pem.slice(pem.indexOf('-----BEGIN CERTIFICATE-----'));
}
