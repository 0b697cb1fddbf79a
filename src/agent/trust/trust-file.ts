// The trust file: which keys may command this host, in whose name, and to do what. TOML, one [[keys]] table per key.

import type { AgentSelector } from '../../core/agent-selector.ts';
import { invalid, LonglineError } from '../../core/errors.ts';
import { CAPABILITY_NAMES } from '../../core/policy/policy.ts';
import { decodeBase64, decodeEd25519PublicKey } from '../../core/signing/ed25519-public-key.ts';
import { parseKeyFile } from '../../core/signing/key-file.ts';
import { ed25519VerificationKey, type VerificationKey } from '../../core/signing/signature.ts';
import { HMAC_SECRET_BYTES, KEY_ID, KEY_ID_FORM, type SignatureAlgorithm } from '../../core/signing/signing-key.ts';
import { readToml, type TomlTable } from '../../core/toml/toml-table.ts';

/** A key and what it may do here. */
export interface TrustEntry {
  readonly keyId: string;
  readonly verification: VerificationKey;
  /** Controllers it speaks for; "*" for any. */
  readonly controllers: readonly string[];
  readonly capabilities: readonly string[];
  /** It is trusted only on agents that one of these picks; empty for every agent. */
  readonly selectors: readonly AgentSelector[];
  /** Scopes that jobs signed with it may require. */
  readonly scopes: readonly string[];
  /** Not trusted from then on, milliseconds since the epoch. */
  readonly notAfterMs: number | undefined;
  /** File it stands in, for messages. */
  readonly source: string;
}

/** A parsed trust file. */
export interface TrustFile {
  readonly entries: readonly TrustEntry[];
  /** True if a shared secret stands in the file itself, so that nobody else may read it. */
  readonly holdsSecret: boolean;
}

/** Reads the secret of an HMAC key from the key file that an entry names. Throws LonglineErrors. */
export type SecretReader = (path: string) => Promise<string>;

/** An entry whose secret may still have to be read. */
interface EntryDraft extends Omit<TrustEntry, 'verification'> {
  readonly algorithm: SignatureAlgorithm | undefined;
  readonly publicKey: string | undefined;
  readonly secret: string | undefined;
  readonly secretFile: string | undefined;
}

/** Parses a trust file and reads the secrets it names. Throws `invalid` with every violation. */
export async function parseTrustFile(text: string, source: string, readSecret: SecretReader): Promise<TrustFile> {
  const drafts = readToml(text, (root) => {
    const seen = new Set<string>();
    return root.tables('keys').map((table) => {
      const draft = entryDraft(table, source);
      if (seen.has(draft.keyId)) table.fail('key_id', `${draft.keyId} is listed twice`);
      seen.add(draft.keyId);
      return draft;
    });
  });
  const entries = await Promise.all(
    drafts.map((draft, position) => trustEntry(draft, `keys[${position}]`, readSecret)),
  );
  return { entries, holdsSecret: drafts.some((draft) => draft.secret !== undefined) };
}

const CAPABILITY = new RegExp(`^(${CAPABILITY_NAMES.join('|')})$`);

function entryDraft(table: TomlTable, source: string): EntryDraft {
  const algorithm = table.requiredString('algorithm', /^(ed25519|hmac-sha256)$/, '"ed25519" or "hmac-sha256"');
  const draft: EntryDraft = {
    keyId: table.requiredString('key_id', KEY_ID, KEY_ID_FORM) ?? '',
    algorithm: algorithm as SignatureAlgorithm | undefined,
    publicKey: table.string('public_key'),
    secret: table.secretString('secret'),
    secretFile: table.string('secret_file', /^\//, 'an absolute path'),
    controllers: table.requiredStrings('controllers') ?? [],
    capabilities: table.requiredStrings('capabilities', CAPABILITY, `one of ${CAPABILITY_NAMES.join(', ')}`) ?? [],
    selectors: table.tables('selectors').map(selector),
    scopes: table.strings('scopes') ?? [],
    notAfterMs: table.instant('not_after'),
    source,
  };
  if (algorithm === 'ed25519') {
    if (draft.publicKey === undefined) table.fail('public_key', 'missing; an ed25519 key needs it');
    if (table.has('secret') || table.has('secret_file'))
      table.fail('secret', 'an ed25519 entry has only the public key');
  }
  if (algorithm === 'hmac-sha256') {
    if (table.has('secret') === table.has('secret_file')) {
      table.fail('secret_file', 'an hmac-sha256 entry needs exactly one of secret and secret_file');
    }
    if (draft.publicKey !== undefined) table.fail('public_key', 'an hmac-sha256 key has none');
  }
  return draft;
}

function selector(table: TomlTable): AgentSelector {
  return {
    matchLabels: table.stringMap('match_labels') ?? {},
    hasLabels: table.strings('has_labels') ?? [],
    agentIds: table.strings('agent_ids') ?? [],
  };
}

async function trustEntry(draft: EntryDraft, path: string, readSecret: SecretReader): Promise<TrustEntry> {
  const { algorithm, publicKey, secret, secretFile, ...entry } = draft;
  try {
    if (algorithm === 'ed25519') {
      return { ...entry, verification: ed25519VerificationKey(decodeEd25519PublicKey(publicKey!)) };
    }
    const bytes = secretFile === undefined ? inlineSecret(secret!) : secretOfKeyFile(await readSecret(secretFile));
    return { ...entry, verification: { algorithm: 'hmac-sha256', secret: bytes } };
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    const where = secretFile === undefined ? path : `${path}.secret_file ${secretFile}`;
    if (error.violations.length === 0) throw invalid([{ field: where, description: error.message }]);
    throw invalid(error.violations.map(({ field, description }) => ({ field: `${where}.${field}`, description })));
  }
}

function secretOfKeyFile(text: string): Uint8Array {
  const file = parseKeyFile(text);
  if (file.kind === 'private' && file.key.algorithm === 'hmac-sha256') return file.key.secret;
  throw invalid([{ field: 'type', description: 'must be "hmac" for an hmac-sha256 entry' }]);
}

function inlineSecret(text: string): Uint8Array {
  const secret = decodeBase64(text);
  const { min, max } = HMAC_SECRET_BYTES;
  if (secret !== undefined && secret.length >= min && secret.length <= max) return secret;
  throw invalid([{ field: 'secret', description: `must be base64 of ${min} to ${max} bytes` }]);
}
