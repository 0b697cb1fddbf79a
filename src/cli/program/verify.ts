// `longline program verify`: judges an artifact as an agent would that has these keys and no others.
import type { Command } from 'commander';
import { LonglineError } from '../../core/errors.ts';
import { type ArtifactKey, readPublicKeys } from '../../core/programs/artifact-key.ts';
import { verifyArtifact } from '../../core/programs/verification.ts';
import type { CliIo } from '../io.ts';
import { readOptionFile } from '../job/spec-options.ts';
import { repeated } from '../option-values.ts';
import { plainText } from '../table.ts';
import { timeValue } from '../time-value.ts';
import { readArtifactFile } from './artifact-file.ts';

interface VerifyOptions {
  readonly key: readonly string[];
  readonly keyId?: readonly string[];
  readonly at?: number;
}

/** Adds `verify`. */
export function registerVerify(group: Command, io: CliIo): void {
  group
    .command('verify <artifact>')
    .description('Check an artifact and its signatures as an agent with these keys would.')
    .requiredOption(
      '--key <path>',
      'public keys: PEM, certificate, base64 or of `longline key show --public`; repeatable',
      repeated,
    )
    .option('--key-id <id>', 'id of the key at the same place instead of its own; repeatable', repeated)
    .option('--at <time>', 'judge as of this time, like 2030-01-31T12:00:00Z', timeValue)
    .action(async (path: string, options: VerifyOptions) => {
      const { artifact, metadata } = await readArtifactFile(path);
      const { metadataBytes, signatures } = artifact;
      const { expiresAtMs, name, version } = metadata;
      const keys = (await Promise.all(options.key.map((file, place) => readKeys(file, options.keyId?.[place])))).flat();
      const nowMs = options.at ?? Date.now();
      const request = { metadataBytes, signatures, expiresAtMs, keys, nowMs, allowUnsigned: false };
      const { signers, holdsUntilMs } = verifyArtifact(request);
      const until = holdsUntilMs === undefined ? null : new Date(holdsUntilMs).toISOString();
      const view = { digest: artifact.digest, name, version, signers, good_until: until };
      await io.result(view, () =>
        plainText(
          `${path}: good, ${name} ${version} signed by ${signers.join(', ')}${until === null ? '' : `, until ${until}`}`,
        ),
      );
    });
}

async function readKeys(path: string, keyId: string | undefined): Promise<readonly ArtifactKey[]> {
  const text = (await readOptionFile('--key', path)).toString('utf8');
  try {
    const keys = readPublicKeys(text);
    return keyId === undefined ? keys : keys.map((key) => ({ ...key, keyId }));
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    throw new LonglineError('invalid', `--key: ${path}: ${error.message}`, { violations: error.violations });
  }
}
