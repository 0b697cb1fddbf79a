// The peer in benches of networks: `wg` of wireguard-tools, which gives a daemon a whole configuration by its socket.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../../deploy/dev/command.ts';
import type { WantedDevice } from '../../../src/capabilities/network/device.ts';

/** Runs `wg` with files of its own. Dispose removes them. */
export class WgTool implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async open(): Promise<WgTool> {
    return new WgTool(await mkdtemp(join(tmpdir(), 'll-wg-')));
  }

  /** Writes the configuration as `wg` reads it; gives the file's path. */
  async file({ listenPort, peers, privateKey }: WantedDevice): Promise<string> {
    const lines = ['[Interface]', `PrivateKey = ${privateKey.reveal()}`, `ListenPort = ${listenPort}`];
    for (const { endpoint, prefixes, publicKey } of peers.values()) {
      lines.push('[Peer]', `PublicKey = ${publicKey}`, `AllowedIPs = ${[...prefixes].join(', ')}`);
      if (endpoint !== undefined) lines.push(`Endpoint = ${endpoint}`);
    }
    const path = join(this.#folder, 'wg.conf');
    await writeFile(path, `${lines.join('\n')}\n`, { mode: 0o600 });
    return path;
  }

  /** Milliseconds that it took. */
  async run(...args: readonly string[]): Promise<number> {
    const { code, durationMs, stderr } = await runCommand(['wg', ...args], { timeoutMs: 120_000 });
    if (code !== 0) throw new Error(`wg ${args[0]} exited with ${code}: ${stderr}`);
    return durationMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}
