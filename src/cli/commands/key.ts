// `longline key`: makes signing keys, shows their public half, lets an agent trust them, and signs jobs offline. Talks to
// nobody; secrets go to files of mode 0600 only, never to the screen.
import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { create, fromJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { type JobSpec, JobSpecSchema, JobTargetSchema } from '#gen/longline/v1/job_pb.js';
import { formatTrustEntry, type TrustGrant } from '../../agent/trust/trust-entry-text.ts';
import { parseTrustFile } from '../../agent/trust/trust-file.ts';
import { LonglineError } from '../../core/errors.ts';
import { CAPABILITY_NAMES } from '../../core/policy/policy.ts';
import { decodeEd25519PublicKey } from '../../core/signing/ed25519-public-key.ts';
import { formatKeyFile, formatPublicKeyFile, type KeyFile, parseKeyFile } from '../../core/signing/key-file.ts';
import { ed25519KeyId, generateSigningKey, KEY_ID, KEY_ID_FORM } from '../../core/signing/signing-key.ts';
import { isPem, makeArtifactKey, showPem } from '../artifact-key-file.ts';
import type { CliIo } from '../io.ts';
import { readSigningKey, signedJobJson, signJob } from '../job/signing.ts';
import { readOptionFile } from '../job/spec-options.ts';
import { durationValue, repeated, type SelectorValue, selectorValue, wordValue } from '../option-values.ts';
import { timeValue } from '../time-value.ts';
import { writePrivate, writeWhole } from '../whole-file.ts';

const TYPES = {
  ed25519: 'ed25519',
  hmac: 'hmac-sha256',
  'ecdsa-p256': 'ecdsa-p256',
  'rsa-pss': 'rsa-pss',
} as const;
type KeyType = (typeof TYPES)[keyof typeof TYPES];
const LOST = 'a key that is replaced is lost: --force does it anyway';

/** Adds `key`. */
export function registerKeyCommands(program: Command, io: CliIo): void {
  const key = program
    .command('key')
    .description('Signing keys: make, show, trust, sign with.')
    .addHelpText(
      'after',
      '\nExamples:\n  longline key generate --out ops.key\n  longline key trust --key ops.key --trust-file /etc/longline/trust.toml --controller main --capability jobs\n  longline key sign --key ops.key --spec job.json --agent web-1 --controller-id main --out job.signed',
    );
  registerGenerate(key, io);
  registerShow(key, io);
  registerTrust(key, io);
  registerSign(key, io);
}

interface GenerateOptions {
  readonly type: KeyType;
  readonly out: string;
  readonly keyId?: string;
  readonly force?: boolean;
}

function registerGenerate(key: Command, io: CliIo): void {
  key
    .command('generate')
    .description('Make a key. The file holds the secret and is readable by you alone.')
    .option(
      '--type <type>',
      'ed25519 (default), hmac for a secret shared with agents; ecdsa-p256 or rsa-pss, as PEM, for artifacts of programs',
      wordValue<KeyType>(TYPES),
      'ed25519',
    )
    .requiredOption('--out <path>', 'file to write')
    .option('--key-id <id>', 'id to give it instead of the one derived from it')
    .option('--force', 'replace the file if it exists')
    .action(async ({ type, out, keyId, force }: GenerateOptions) => {
      if (keyId !== undefined && !KEY_ID.test(keyId)) {
        throw new LonglineError('invalid', `--key-id: got ${JSON.stringify(keyId)}; must be ${KEY_ID_FORM}`);
      }
      if (type === 'ecdsa-p256' || type === 'rsa-pss') {
        if (keyId === undefined) return await makeArtifactKey(io, type, out, force ?? false);
        throw new LonglineError('invalid', `--key-id: a key as PEM has no place for it; give it to program pack`);
      }
      const made = generateSigningKey(type, keyId);
      if (force) await writeWhole(out, formatKeyFile(made), 0o600);
      else await writePrivate(out, formatKeyFile(made), LOST);
      await showKey(io, { kind: 'private', key: made }, { path: resolve(out) });
    });
}

function registerShow(key: Command, io: CliIo): void {
  key
    .command('show <path>')
    .description('Show the id and public half of a key file.')
    .option('--public', 'print a key file with the public half only')
    .action(async (path: string, options: { readonly public?: boolean }) => {
      const text = (await readOptionFile('key file', path)).toString('utf8');
      if (isPem(text)) return await showPem(io, path, text, options.public ?? false);
      const file = await readKeyFile(path);
      const { publicKey } = file.key;
      if (options.public !== true) return await showKey(io, file, {});
      if (publicKey === undefined) {
        throw new LonglineError('invalid', `${path} is an HMAC key: it has no public half`);
      }
      await io.stdout.write(formatPublicKeyFile({ keyId: file.key.keyId, publicKey }));
    });
}

interface TrustOptions {
  readonly trustFile: string;
  readonly key?: string;
  readonly publicKey?: string;
  readonly keyId?: string;
  readonly controller: readonly string[];
  readonly capability: readonly string[];
  readonly scope?: readonly string[];
  readonly selector?: readonly SelectorValue[];
  readonly notAfter?: number;
}

function registerTrust(key: Command, io: CliIo): void {
  key
    .command('trust')
    .description('Add a key to a trust file. The agent takes it over at its next reload.')
    .requiredOption('--trust-file <path>', 'trust file of the agent; made if it is missing')
    .option('--key <path>', 'key file, private or public; an HMAC key is referred to by its path')
    .option('--public-key <base64>', 'Ed25519 public key, instead of --key')
    .option('--key-id <id>', 'id of --public-key; derived from it if left out')
    .requiredOption('--controller <id>', 'controller it may speak for, "*" for any; repeatable', repeated)
    .requiredOption('--capability <name>', `one of ${CAPABILITY_NAMES.join(', ')}; repeatable`, repeated)
    .option('--scope <scope>', 'scope that jobs signed with it may require; repeatable', repeated)
    .option('--selector <selector>', 'only on agents that match, like "zone=eu"; repeatable, one is enough', selectors)
    .option('--not-after <time>', 'not trusted from then on, like 2030-01-31T12:00:00Z', timeValue)
    .action(async (options: TrustOptions) => {
      const grant: TrustGrant = {
        ...(await keyToTrust(options)),
        controllers: options.controller,
        capabilities: options.capability,
        selectors: options.selector ?? [],
        scopes: options.scope ?? [],
        notAfterMs: options.notAfter,
      };
      await appendTrust(options.trustFile, formatTrustEntry(grant));
      const view = { key_id: grant.keyId, trust_file: resolve(options.trustFile) };
      await io.result(view, () => `key ${grant.keyId} is trusted in ${options.trustFile}`);
    });
}

interface SignOptions {
  readonly key: string;
  readonly spec: string;
  readonly agent?: string;
  readonly audience?: SelectorValue;
  readonly controllerId: string;
  readonly ttl: number;
  readonly out: string;
}

function registerSign(key: Command, io: CliIo): void {
  key
    .command('sign')
    .description('Sign a job offline, for `job run --signed`. Each signed file runs at most once on each agent.')
    .requiredOption('--key <path>', 'private key file')
    .requiredOption('--spec <path>', 'job as JSON of longline.v1.JobSpec')
    .option('--agent <id>', 'the agent it is meant for')
    .option('--audience <selector>', 'the agents it is meant for, like "zone=eu"; instead of --agent', selectorValue)
    .requiredOption('--controller-id <id>', 'controller in whose name it is signed')
    .option('--ttl <duration>', 'how long it is good for', durationValue, 3_600_000)
    .requiredOption('--out <path>', 'file to write')
    .action(async (options: SignOptions) => {
      const { agent, audience, controllerId, ttl: ttlMs } = options;
      if ((agent === undefined) === (audience === undefined)) {
        throw new LonglineError('invalid', 'whom is it meant for? Give exactly one of --agent and --audience');
      }
      const target = create(JobTargetSchema, {
        target: agent === undefined ? { case: 'allOf', value: audience! } : { case: 'agentId', value: agent },
      });
      const spec = await readJobSpec(options.spec);
      const signingKey = await readSigningKey(options.key);
      const signed = signJob(spec, { controllerId, target, ttlMs }, signingKey, Date.now());
      await writeWhole(options.out, signedJobJson(signed), 0o644);
      const expiresAt = new Date(Date.now() + ttlMs).toISOString();
      const view = { path: resolve(options.out), key_id: signingKey.keyId, expires_at: expiresAt };
      await io.result(view, () => `${options.out}: signed with ${signingKey.keyId}, good until ${expiresAt}`);
    });
}

/** Reads a job as JSON. Throws `invalid` with the path. */
export async function readJobSpec(path: string): Promise<JobSpec> {
  const text = (await readOptionFile('--spec', path)).toString('utf8');
  try {
    return fromJson(JobSpecSchema, JSON.parse(text));
  } catch (error) {
    const message = `--spec: ${path} is not JSON of longline.v1.JobSpec: ${(error as Error).message}`;
    throw new LonglineError('invalid', message, { cause: error });
  }
}

async function readKeyFile(path: string): Promise<KeyFile> {
  const text = (await readOptionFile('key file', path)).toString('utf8');
  try {
    return parseKeyFile(text);
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    throw new LonglineError('invalid', `key file ${path}: ${error.message}`, { violations: error.violations });
  }
}

async function showKey(io: CliIo, { kind, key }: KeyFile, extra: Readonly<Record<string, unknown>>): Promise<void> {
  const publicKey = key.publicKey === undefined ? null : Buffer.from(key.publicKey).toString('base64');
  const algorithm = 'algorithm' in key ? key.algorithm : 'ed25519';
  const view = { key_id: key.keyId, algorithm, public_key: publicKey, private: kind === 'private', ...extra };
  await io.result(view, () =>
    [
      `key id      ${key.keyId}`,
      `algorithm   ${algorithm}`,
      `public key  ${publicKey ?? 'none: the secret is shared'}`,
    ].join('\n'),
  );
}

async function keyToTrust(options: TrustOptions): Promise<Pick<TrustGrant, 'keyId' | 'publicKey' | 'secretFile'>> {
  if ((options.key === undefined) === (options.publicKey === undefined)) {
    throw new LonglineError('invalid', 'which key? Give exactly one of --key and --public-key');
  }
  if (options.publicKey !== undefined) {
    const publicKey = decodeEd25519PublicKey(options.publicKey);
    return { keyId: options.keyId ?? ed25519KeyId(publicKey), publicKey, secretFile: undefined };
  }
  const { key } = await readKeyFile(options.key!);
  if (options.keyId !== undefined) {
    throw new LonglineError(
      'invalid',
      `--key-id: ${options.key} has the id ${key.keyId}; --key-id goes with --public-key`,
    );
  }
  const secretFile = key.publicKey === undefined ? resolve(options.key!) : undefined;
  return { keyId: key.keyId, publicKey: key.publicKey, secretFile };
}

function selectors(text: string, before: readonly SelectorValue[] | undefined): readonly SelectorValue[] {
  return [...(before ?? []), selectorValue(text)];
}

/** Adds an entry to a trust file, which must be right with it. Comments and order stay. */
async function appendTrust(path: string, entry: string): Promise<void> {
  const before = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw new LonglineError('unavailable', `can't read trust file ${path}: ${error.message}`, { cause: error });
  });
  const separator = before === '' || before.endsWith('\n') ? '' : '\n';
  const text = `${before}${separator}${before === '' ? '' : '\n'}${entry}`;
  try {
    await parseTrustFile(text, path, (secretFile) => readFile(secretFile, 'utf8'));
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    throw new LonglineError('invalid', `trust file ${path} would be wrong: ${error.message}`, {
      violations: error.violations,
    });
  }
  const mode = before === '' ? 0o644 : (await stat(path)).mode & 0o777;
  await writeWhole(path, text, mode);
}
