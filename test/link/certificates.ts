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
import { newTestKeys, privateKeyPem, TEST_KEY_ALGORITHM } from '../fixtures/pem.ts';

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

const crypto = webcrypto as unknown as NonNullable<Parameters<typeof X509CertificateGenerator.createSelfSigned>[1]>;

/** Makes everything anew; valid for an hour around now. */
export async function makePki(): Promise<TestPki> {
  const times = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000) };
  const authorityKeys = await newTestKeys();
  const authority = await X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=test authority',
      keys: authorityKeys,
      signingAlgorithm: TEST_KEY_ALGORITHM,
      extensions: [new BasicConstraintsExtension(true, undefined, true)],
      ...times,
    },
    crypto,
  );
  const issue = async (name: string, usage: ExtendedKeyUsage): Promise<TestIdentity> => {
    const keys = await newTestKeys();
    const certificate = await X509CertificateGenerator.create(
      {
        subject: `CN=${name}`,
        issuer: authority.subject,
        publicKey: keys.publicKey,
        signingKey: authorityKeys.privateKey,
        signingAlgorithm: TEST_KEY_ALGORITHM,
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
    return { certificate: certificate.toString('pem'), privateKey: await privateKeyPem(keys.privateKey) };
  };
  return {
    authority: authority.toString('pem'),
    server: await issue('controller', ExtendedKeyUsage.serverAuth),
    agent: await issue('agent', ExtendedKeyUsage.clientAuth),
  };
}
