// Form of a registration token: "lle1.<secret>.<pin>". The pin is the SHA-256 of the controller's CA certificate (DER),
// so that the first contact is safe without a public CA. Both parts are base64url without padding.
import { LonglineError } from './errors.ts';

const PREFIX = 'lle1';

/** A registration token taken apart. */
export interface EnrollmentTokenParts {
  /** Sent to the controller. */
  readonly secret: string;
  /** SHA-256 of the CA certificate's DER: 32 bytes. */
  readonly caSha256: Uint8Array;
}

/** Takes a token apart. Throws `invalid`, without repeating the token, if it hasn't the form. */
export function parseEnrollmentToken(token: string): EnrollmentTokenParts {
  const [prefix, secret, pin, ...rest] = token.trim().split('.');
  const caSha256 = Buffer.from(pin ?? '', 'base64url');
  const whole = prefix === PREFIX && secret !== undefined && /^[A-Za-z0-9_-]{16,}$/.test(secret) && rest.length === 0;
  if (!whole || caSha256.length !== 32) {
    throw new LonglineError(
      'invalid',
      `token: is not a registration token of ${token.length} characters; it must look like ${PREFIX}.<secret>.<hash>, as "longline token create" prints it`,
      { violations: [{ field: 'token', description: `must look like ${PREFIX}.<secret>.<hash>` }] },
    );
  }
  return { secret, caSha256 };
}

/** Puts a token together. */
export function formatEnrollmentToken(parts: EnrollmentTokenParts): string {
  return `${PREFIX}.${parts.secret}.${Buffer.from(parts.caSha256).toString('base64url')}`;
}
