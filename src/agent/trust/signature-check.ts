// Which signatures of a payload are by keys that this host trusts.
import { type SignedPayload, SignatureAlgorithm as WireAlgorithm } from '#gen/longline/v1/signature_pb.js';
import { preAuthEncoding } from '../../core/dsse.ts';
import { LonglineError } from '../../core/errors.ts';
import { verifyEncoded } from '../../core/signing/signature.ts';
import type { SignatureAlgorithm } from '../../core/signing/signing-key.ts';
import type { TrustEntry } from './trust-file.ts';

/** Most signatures looked at: checking one costs far more than sending one. */
const MAX_SIGNATURES = 8;

const ALGORITHM: Readonly<Record<number, SignatureAlgorithm>> = {
  [WireAlgorithm.ED25519]: 'ed25519',
  [WireAlgorithm.HMAC_SHA256]: 'hmac-sha256',
};

/**
 * Entries of the keys whose signatures hold, in order and at least one. Throws `identity` if none does, telling for each
 * signature why. The algorithm is the trust entry's; a signature that claims another is not looked at.
 */
export function trustedSignatures(
  signed: SignedPayload,
  findKey: (keyId: string) => TrustEntry | undefined,
): readonly TrustEntry[] {
  if (signed.signatures.length > MAX_SIGNATURES) {
    throw new LonglineError(
      'invalid',
      `the payload has ${signed.signatures.length} signatures; at most ${MAX_SIGNATURES}`,
      {
        rule: 'statement.signatures',
      },
    );
  }
  const encoded = preAuthEncoding(signed.payloadType, signed.payload);
  const trusted: TrustEntry[] = [];
  const faults: string[] = [];
  for (const signature of signed.signatures) {
    const entry = findKey(signature.keyId);
    const name = JSON.stringify(signature.keyId.slice(0, 128));
    if (entry === undefined) faults.push(`key ${name} is not trusted here`);
    else if (ALGORITHM[signature.algorithm] !== entry.verification.algorithm) {
      faults.push(`key ${name} signs with ${entry.verification.algorithm}, and the signature claims another algorithm`);
    } else if (verifyEncoded(entry.verification, encoded, signature.value)) trusted.push(entry);
    else faults.push(`the signature by key ${name} is wrong: the payload was changed, or another key made it`);
  }
  if (trusted.length > 0) return trusted;
  throw new LonglineError('identity', `no trusted signature: ${faults.join('; ')}`, { rule: 'statement.signatures' });
}
