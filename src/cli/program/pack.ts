// `longline program pack`: builds an artifact from a compiled object and what is to be said of it, and signs it.
import { createHash } from 'node:crypto';
import { create, toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import { preAuthEncoding } from '../../core/dsse.ts';
import { LonglineError } from '../../core/errors.ts';
import { artifactDigest, checkObject, packArtifact } from '../../core/programs/artifact.ts';
import { ARTIFACT_PAYLOAD_TYPE, readSigningKey, signMetadata } from '../../core/programs/artifact-key.ts';
import { MAX_OBJECT_BYTES, readMetadata } from '../../core/programs/metadata-message.ts';
import { type ArtifactSignature, parseSignatures } from '../../core/programs/signatures.ts';
import { KEY_ID, KEY_ID_FORM } from '../../core/signing/signing-key.ts';
import type { CliIo } from '../io.ts';
import { readOptionFile } from '../job/spec-options.ts';
import { messageFrom, parseTable } from '../message-file.ts';
import { repeated } from '../option-values.ts';
import { plainText } from '../table.ts';
import { writeWhole } from '../whole-file.ts';
import { readLimited } from './artifact-file.ts';

interface PackOptions {
  readonly object: string;
  readonly metadata: string;
  readonly key?: readonly string[];
  readonly keyId?: readonly string[];
  readonly signature?: readonly string[];
  readonly unsigned?: boolean;
  readonly payload?: string;
  readonly out?: string;
}

const EXAMPLES = `
The metadata is TOML or JSON with the fields of longline.v1.ProgramMetadata; digest and size of the object are filled in.

Examples:
  longline program pack --object drop.bpf.o --metadata drop.toml --key ops.key --out drop.tar.zst
  longline program pack --object drop.bpf.o --metadata drop.toml --payload to-sign    # for a signer elsewhere
  longline program pack --object drop.bpf.o --metadata drop.toml --signature vault.json --out drop.tar.zst`;

/** Adds `pack`. */
export function registerPack(group: Command, io: CliIo): void {
  group
    .command('pack')
    .description('Build an artifact from a compiled object, and sign it.')
    .requiredOption('--object <path>', 'object that clang made for the target bpf')
    .requiredOption('--metadata <path>', 'what to say of it, as .toml or .json')
    .option('--key <path>', 'private key to sign with, PEM or of `longline key generate`; repeatable', repeated)
    .option('--key-id <id>', 'id for the key at the same place instead of its own; repeatable', repeated)
    .option(
      '--signature <path>',
      'JSON with a signature made elsewhere: keyId, algorithm, signature; repeatable',
      repeated,
    )
    .option('--unsigned', 'sign it with nothing; agents refuse it unless they are told otherwise')
    .option('--payload <path>', 'write what has to be signed, for a signer elsewhere')
    .option('--out <path>', 'artifact to write; one that is there is replaced')
    .addHelpText('after', EXAMPLES)
    .action((options: PackOptions) => pack(options, io));
}

async function pack(options: PackOptions, io: CliIo): Promise<void> {
  const { out, payload } = options;
  if (out === undefined && payload === undefined) {
    throw new LonglineError('invalid', 'what is to be written? Give --out, --payload, or both');
  }
  const object = await readObject(options.object);
  const { metadataBytes, name, version } = await makeMetadata(options.metadata, object);
  if (payload !== undefined) await writeWhole(payload, preAuthEncoding(ARTIFACT_PAYLOAD_TYPE, metadataBytes), 0o644);
  if (out === undefined) {
    const view = { payload, payload_type: ARTIFACT_PAYLOAD_TYPE, name, version };
    return await io.result(view, () => plainText(`${payload}: sign these bytes as they are, for ${name} ${version}`));
  }
  const signatures = await sign(options, metadataBytes);
  const artifact = await packArtifact({ metadataBytes, object, signatures });
  await writeWhole(out, artifact, 0o644);
  const signers = signatures.map(({ keyId }) => keyId).sort();
  const view = { path: out, digest: artifactDigest(artifact), size: artifact.length, name, version, signers };
  const by = signers.length === 0 ? 'not signed' : `signed by ${signers.join(', ')}`;
  await io.result(view, () => plainText(`${out}: ${name} ${version}, ${by}\n${view.digest}`));
}

async function readObject(path: string): Promise<Uint8Array> {
  const object = await readLimited(path, MAX_OBJECT_BYTES);
  // The kernel's side says what else may be wrong with it. This is for the likeliest mistakes: the source, or another target.
  const isBpf = object.length >= 20 && object.readUInt32BE(0) === 0x7f454c46 && object.readUInt16LE(18) === 247;
  if (isBpf) return object;
  throw new LonglineError('invalid', `--object: ${path} is no BPF object; make one with clang -O2 -g --target=bpf -c`);
}

async function makeMetadata(path: string, object: Uint8Array) {
  const text = (await readOptionFile('--metadata', path)).toString('utf8');
  const described = messageFrom(ProgramMetadataSchema, parseTable(text, path), path);
  const message = create(ProgramMetadataSchema, {
    ...described,
    objectSha256: described.objectSha256 || createHash('sha256').update(object).digest('hex'),
    objectSize: described.objectSize || BigInt(object.length),
  });
  const metadata = readMetadata(message);
  checkObject(metadata, object);
  const json = JSON.stringify(toJson(ProgramMetadataSchema, message), undefined, 2);
  return { metadataBytes: new TextEncoder().encode(`${json}\n`), name: metadata.name, version: metadata.version };
}

async function sign(options: PackOptions, metadataBytes: Uint8Array): Promise<readonly ArtifactSignature[]> {
  const { key: keys = [], keyId: ids = [], signature: made = [], unsigned = false } = options;
  const count = keys.length + made.length;
  if (unsigned === count > 0) {
    const why = unsigned
      ? '--unsigned was given beside a signature'
      : 'who signs it? Give --key, --signature or --unsigned';
    throw new LonglineError('invalid', why);
  }
  if (ids.length > keys.length) {
    throw new LonglineError('invalid', `--key-id was given ${ids.length} times for ${keys.length} keys`);
  }
  const wrong = ids.find((id) => !KEY_ID.test(id));
  if (wrong !== undefined)
    throw new LonglineError('invalid', `--key-id: got ${JSON.stringify(wrong)}; must be ${KEY_ID_FORM}`);
  const own = await Promise.all(keys.map((path, place) => signWith(path, ids[place], metadataBytes)));
  const others = await Promise.all(made.map(readMade));
  return parseSignatures([...own, ...others.flat()]);
}

async function signWith(path: string, id: string | undefined, metadataBytes: Uint8Array): Promise<unknown> {
  const text = (await readOptionFile('--key', path)).toString('utf8');
  try {
    const key = readSigningKey(text, id);
    const signature = Buffer.from(signMetadata(key, metadataBytes)).toString('base64');
    return { keyId: key.keyId, algorithm: key.algorithm, signature };
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    throw new LonglineError('invalid', `--key: ${path}: ${error.message}`, { violations: error.violations });
  }
}

/** One signature or a list of them; what Vault puts before its signatures is taken off. */
async function readMade(path: string): Promise<readonly unknown[]> {
  const text = (await readOptionFile('--signature', path)).toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new LonglineError('invalid', `--signature: ${path} is no JSON: ${(error as Error).message}`, {
      cause: error,
    });
  }
  return [value].flat().map((item: unknown) => {
    const { signature } = (item ?? {}) as { readonly signature?: unknown };
    if (typeof signature !== 'string') return item;
    return { ...(item as object), signature: signature.trim().replace(/^vault:v\d+:/, '') };
  });
}
