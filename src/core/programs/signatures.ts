// signatures.json of an artifact: who signed its metadata, detached. Reads and writes the file; whether they hold, verification.ts
// says. What is wrong is `invalid`.
import { type FieldViolation, invalid, LonglineError } from '../errors.ts';
import { decodeBase64 } from '../signing/ed25519-public-key.ts';
import { KEY_ID, KEY_ID_FORM } from '../signing/signing-key.ts';

/** How artifacts are signed: ECDSA and RSA-PSS with SHA-256, the salt of which has 32 bytes. */
export const ARTIFACT_ALGORITHMS = ['ed25519', 'ecdsa-p256', 'rsa-pss'] as const;
export type ArtifactAlgorithm = (typeof ARTIFACT_ALGORITHMS)[number];

/** A signature of the bytes of metadata.json. */
export interface ArtifactSignature {
  readonly keyId: string;
  readonly algorithm: ArtifactAlgorithm;
  readonly signature: Uint8Array;
}

/** Most signatures that are looked at: checking one costs far more than making one up. */
export const MAX_SIGNATURES = 8;
const MAX_SIGNATURE_BYTES = 1024;

/** Reads the file. */
export function readSignatures(bytes: Uint8Array): readonly ArtifactSignature[] {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new LonglineError('invalid', `signatures.json is no JSON: ${(error as Error).message}`, { cause: error });
  }
  return parseSignatures(value);
}

/** Takes the value of the file. */
export function parseSignatures(value: unknown): readonly ArtifactSignature[] {
  if (!Array.isArray(value)) throw new LonglineError('invalid', 'signatures.json must be a list of signatures');
  if (value.length > MAX_SIGNATURES) {
    throw new LonglineError('invalid', `signatures.json has ${value.length} signatures; at most ${MAX_SIGNATURES}`);
  }
  const violations: FieldViolation[] = [];
  const signatures = value.map((item: unknown, place) => readSignature(item, `signatures[${place}]`, violations));
  const ids = new Set<string>();
  for (const [place, { keyId }] of signatures.entries()) {
    if (ids.has(keyId))
      violations.push({ field: `signatures[${place}].keyId`, description: `"${keyId}" is there twice` });
    ids.add(keyId);
  }
  if (violations.length > 0) throw invalid(violations);
  return signatures;
}

function readSignature(item: unknown, at: string, violations: FieldViolation[]): ArtifactSignature {
  const fields = typeof item === 'object' && item !== null ? (item as Readonly<Record<string, unknown>>) : {};
  const refuse = (field: string, description: string) => violations.push({ field: `${at}.${field}`, description });
  for (const name of Object.keys(fields)) {
    if (!['keyId', 'algorithm', 'signature'].includes(name)) {
      refuse(name.slice(0, 64), 'unknown; known are keyId, algorithm, signature');
    }
  }
  const { keyId, algorithm: name, signature: text } = fields;
  if (typeof keyId !== 'string' || !KEY_ID.test(keyId)) refuse('keyId', `must be ${KEY_ID_FORM}`);
  const algorithm = ARTIFACT_ALGORITHMS.find((one) => one === name);
  if (algorithm === undefined) refuse('algorithm', `must be one of ${ARTIFACT_ALGORITHMS.join(', ')}`);
  const signature = typeof text === 'string' ? decodeBase64(text) : undefined;
  if (signature === undefined || signature.length === 0 || signature.length > MAX_SIGNATURE_BYTES) {
    refuse('signature', `must be base64 of 1 to ${MAX_SIGNATURE_BYTES} bytes`);
  }
  return { keyId: String(keyId), algorithm: algorithm ?? 'ed25519', signature: signature ?? new Uint8Array() };
}

/** The file, in one form for the same signatures: in the order of their keys. */
export function writeSignatures(signatures: readonly ArtifactSignature[]): Uint8Array {
  const items = [...signatures]
    .sort((one, other) => (one.keyId < other.keyId ? -1 : 1))
    .map(({ keyId, algorithm, signature }) => ({
      keyId,
      algorithm,
      signature: Buffer.from(signature).toString('base64'),
    }));
  return new TextEncoder().encode(`${JSON.stringify(items, undefined, 2)}\n`);
}
