// An operator, an account and a user of NATS, as whoever runs NATS with JWTs makes them: configuration for the server, and the
// credentials file of the user.
import { nkeys } from '@nats-io/transport-node';

type KeyPair = ReturnType<typeof nkeys.createUser>;

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const base64 = (value: string | Uint8Array): string => Buffer.from(value).toString('base64url');

function jwt(issuer: KeyPair, subject: KeyPair, name: string, nats: Record<string, unknown>): string {
  const claims = { jti: name, iat: 1_700_000_000, iss: issuer.getPublicKey(), name, sub: subject.getPublicKey(), nats };
  const head = base64(JSON.stringify({ typ: 'JWT', alg: 'ed25519-nkey' }));
  const signed = `${head}.${base64(JSON.stringify(claims))}`;
  return `${signed}.${base64(issuer.sign(new TextEncoder().encode(signed)))}`;
}

/** A server's configuration, and what a user of it has in its credentials file. */
export function userWithJwt(): { readonly config: string; readonly credentials: string } {
  const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()];
  const operatorJwt = jwt(operator, operator, 'operator', { type: 'operator', version: 2 });
  const none = -1;
  const limits = { subs: none, data: none, payload: none, imports: none, exports: none, conn: none, leaf: none };
  const accountJwt = jwt(operator, account, 'account', {
    type: 'account',
    version: 2,
    limits: { ...limits, wildcards: true },
    default_permissions: { pub: {}, sub: {} },
  });
  const userJwt = jwt(account, user, 'user', {
    type: 'user',
    version: 2,
    pub: {},
    sub: {},
    subs: none,
    data: none,
    payload: none,
  });
  const config = [
    `operator: ${operatorJwt}`,
    'resolver: MEMORY',
    `resolver_preload: { ${account.getPublicKey()}: "${accountJwt}" }`,
  ];
  const credentials = [
    '-----BEGIN NATS USER JWT-----',
    userJwt,
    '------END NATS USER JWT------',
    '',
    '-----BEGIN USER NKEY SEED-----',
    text(user.getSeed()),
    '------END USER NKEY SEED------',
    '',
  ];
  return { config: config.join('\n'), credentials: credentials.join('\n') };
}
