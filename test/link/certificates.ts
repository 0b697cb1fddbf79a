// A certificate authority in memory, for tests over real TLS.
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

/** A certificate with its key, PEM. */
export interface TestIdentity {
  readonly certificate: string;
  readonly privateKey: string;
}

/** An authority, a server for 127.0.0.1 and one agent. */
export interface TestPki {
  readonly authority: string;
  readonly server: TestIdentity;
  readonly agent: TestIdentity;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const crypto = webcrypto as unknown as NonNullable<Parameters<typeof X509CertificateGenerator.createSelfSigned>[1]>;

/** Makes everything anew; valid for an hour around now. */
export async function makePki(): Promise<TestPki> {
  const times = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000) };
  const generate = () => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const authorityKeys = await generate();
  const authority = await X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=test authority',
      keys: authorityKeys,
      signingAlgorithm: ALGORITHM,
      extensions: [new BasicConstraintsExtension(true, undefined, true)],
      ...times,
    },
    crypto,
  );
  const issue = async (name: string, usage: ExtendedKeyUsage): Promise<TestIdentity> => {
    const keys = await generate();
    const certificate = await X509CertificateGenerator.create(
      {
        subject: `CN=${name}`,
        issuer: authority.subject,
        publicKey: keys.publicKey,
        signingKey: authorityKeys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new ExtendedKeyUsageExtension([usage]),
          new SubjectAlternativeNameExtension([
            { type: 'ip', value: '127.0.0.1' },
            { type: 'dns', value: 'localhost' },
          ]),
        ],
        ...times,
      },
      crypto,
    );
    const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
    const body = pkcs8.replace(/(.{64})/g, '$1\n');
    const privateKey = `-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----\n`;
    return { certificate: certificate.toString('pem'), privateKey };
  };
  return {
    authority: authority.toString('pem'),
    server: await issue('controller', ExtendedKeyUsage.serverAuth),
    agent: await issue('agent', ExtendedKeyUsage.clientAuth),
  };
}
