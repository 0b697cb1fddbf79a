// `longline network genkey` and `pubkey`: keys of WireGuard, as wg(8) reads and writes them.
import { open, readFile } from 'node:fs/promises';
import { text as textOf } from 'node:stream/consumers';
import type { Command } from 'commander';
import { LonglineError } from '../../core/errors.ts';
import { SecretKey } from '../../core/wireguard-keys.ts';
import type { CliIo } from '../io.ts';

/** Adds `genkey`. */
export function registerGenkey(network: Command, io: CliIo): void {
  network
    .command('genkey')
    .description('Make a private key. Without --out it goes to standard output, and nowhere else.')
    .option('--out <path>', 'new file for it, readable by you alone; the public key is shown')
    .action(async ({ out }: { out?: string }) => {
      const key = SecretKey.generate();
      if (out === undefined) return await io.result({ private_key: key.reveal() }, () => key.reveal());
      await writeKey(out, key);
      await io.result({ path: out, public_key: key.publicKey() }, () => key.publicKey());
    });
}

/** Adds `pubkey`. */
export function registerPubkey(network: Command, io: CliIo): void {
  network
    .command('pubkey [file]')
    .description('Show the public key of a private one, from a file or from standard input.')
    .action(async (file: string | undefined) => {
      const text = file === undefined ? await textOf(io.stdin) : await readKeyFile(file);
      const key = SecretKey.parse(text.trim());
      if (key === undefined) {
        const where = file ?? 'standard input';
        throw new LonglineError('invalid', `${where}: holds no key; it must be 32 bytes as 44 characters of base64`);
      }
      const publicKey = key.publicKey();
      await io.result({ public_key: publicKey }, () => publicKey);
    });
}

async function writeKey(path: string, key: SecretKey): Promise<void> {
  try {
    await using file = await open(path, 'wx', 0o600);
    await file.writeFile(`${key.reveal()}\n`);
    await file.sync();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') {
      throw new LonglineError('already_exists', `--out: ${path} is there; a key is not written over`);
    }
    throw new LonglineError('invalid', `--out: ${path} can't be written: ${message}`, { cause: error });
  }
}

async function readKeyFile(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new LonglineError('invalid', `${path} can't be read: ${error.message}`, { cause: error });
  });
}
