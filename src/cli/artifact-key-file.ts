// Keys of artifacts that are kept as PEM: ECDSA and RSA, and Ed25519 of other tools.
import { createPublicKey } from 'node:crypto';
import { resolve } from 'node:path';
import { LonglineError } from '../core/errors.ts';
import {
  type ArtifactKey,
  generateArtifactKey,
  publicHalf,
  readPublicKey,
  readSigningKey,
} from '../core/programs/artifact-key.ts';
import type { ArtifactAlgorithm } from '../core/programs/signatures.ts';
import type { CliIo } from './io.ts';
import { writePrivate, writeWhole } from './whole-file.ts';

/** Makes a key pair: the private half at `out`, readable by its owner alone, the public one beside it as `out`.pub. */
export async function makeArtifactKey(
  io: CliIo,
  algorithm: ArtifactAlgorithm,
  out: string,
  force: boolean,
): Promise<void> {
  const { privatePem, publicPem } = generateArtifactKey(algorithm);
  if (force) await writeWhole(out, privatePem, 0o600);
  else await writePrivate(out, privatePem, 'a key that is replaced is lost: --force does it anyway');
  await writeWhole(`${out}.pub`, publicPem, 0o644);
  const paths = { path: resolve(out), public_path: resolve(`${out}.pub`) };
  await showArtifactKey(io, readPublicKey(publicPem), true, paths);
}

/** True for a text that is PEM. */
export function isPem(text: string): boolean {
  return text.trimStart().startsWith('-----BEGIN');
}

/** Shows a PEM file; `publicOnly` prints the public half as PEM. Throws `invalid` with the path. */
export async function showPem(io: CliIo, path: string, text: string, publicOnly: boolean): Promise<void> {
  try {
    const isPrivate = /^\s*-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text);
    const key = isPrivate ? publicHalf(readSigningKey(text)) : readPublicKey(text);
    if (publicOnly) return await io.stdout.write(pemOf(key));
    await showArtifactKey(io, key, isPrivate, {});
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    throw new LonglineError('invalid', `key file ${path}: ${error.message}`);
  }
}

async function showArtifactKey(
  io: CliIo,
  key: ArtifactKey,
  isPrivate: boolean,
  paths: Readonly<Record<string, string>>,
): Promise<void> {
  const { keyId, algorithm } = key;
  const view = { key_id: keyId, algorithm, public_key: pemOf(key), private: isPrivate, ...paths };
  await io.result(view, () => `key id      ${keyId}\nalgorithm   ${algorithm}\n${pemOf(key).trimEnd()}`);
}

function pemOf({ publicKey }: ArtifactKey): string {
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  return String(key.export({ format: 'pem', type: 'spki' }));
}
