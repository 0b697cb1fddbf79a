// Bearer secrets: how they are made, written and stored. A secret is 256 random bits, so one SHA-256 is enough to store
// it by: there is nothing to guess that a slow hash would protect.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { LonglineError } from '../../core/errors.ts';

const API_TOKEN = /^lla1\.([A-Za-z0-9_-]{43})$/;
const AGENT_API_KEY = /^[0-9a-f]{64}$/;

/** A new secret: 43 characters of base64url. */
export function newSecret(): string {
  return randomBytes(32).toString('base64url');
}

/** A new agent API key: 64 lower-case hex characters. */
export function newAgentApiKey(): string {
  return randomBytes(32).toString('hex');
}

/** What is stored of a secret: SHA-256 of its characters. */
export function hashSecret(secret: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update(secret, 'utf8').digest());
}

/** Compares hashes in constant time. */
export function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** "lla1.<secret>". */
export function formatApiToken(secret: string): string {
  return `lla1.${secret}`;
}

/** The secret in "Bearer lla1.<secret>". Throws `identity`, without repeating what was given, if it hasn't that form. */
export function apiSecretOf(authorization: string | null): string {
  if (authorization === null || authorization === '') {
    throw new LonglineError('identity', 'no credentials; send the header "authorization: Bearer <API token>"');
  }
  const secret = API_TOKEN.exec(bearerOf(authorization) ?? '')?.[1];
  if (secret === undefined) {
    throw new LonglineError('identity', 'authorization: is no API token; it must be "Bearer lla1.<secret>"');
  }
  return secret;
}

/** The key in "Bearer <64 hex characters>". Throws `identity`, without repeating what was given, if it hasn't that form. */
export function agentApiKeyOf(authorization: string | undefined): string {
  const key = bearerOf(authorization ?? '')?.toLowerCase();
  if (key === undefined || !AGENT_API_KEY.test(key)) {
    throw new LonglineError('identity', 'authorization: must be "Bearer <API key>", the key being 64 hex characters');
  }
  return key;
}

function bearerOf(authorization: string): string | undefined {
  return /^bearer +(\S+)$/i.exec(authorization.trim())?.[1];
}
