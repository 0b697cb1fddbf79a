import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdir, mkdtemp, rename, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type HostKeyOptions, HostKeys } from '../../../src/agent/programs/artifact-keys.ts';
import { keyCopyFile } from '../../../src/agent/programs/key-copy-file.ts';
import { type KeysSetup, openHostKeys } from '../../../src/agent/programs/keys-setup.ts';
import type { ArtifactKey, ArtifactKeys } from '../../../src/capabilities/programs/ports.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { Secret } from '../../../src/core/config/secret.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { generateArtifactKey, readPublicKey } from '../../../src/core/programs/artifact-key.ts';
import { formatPublicKeyFile } from '../../../src/core/signing/key-file.ts';
import { generateSigningKey } from '../../../src/core/signing/signing-key.ts';
import { FakeVault } from '../../fixtures/vault.ts';
import { makePki } from '../../link/certificates.ts';

const ed25519 = generateArtifactKey('ed25519').publicPem;
const ecdsa = generateArtifactKey('ecdsa-p256').publicPem;
const idOf = (pem: string) => readPublicKey(pem).keyId;
const { signal } = new AbortController();
let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keys-'));
});
after(() => rm(folder, { recursive: true }));

/** Sleeps until it is told to wake. */
class Waking {
  #wake: (() => void) | undefined;
  readonly clock = {
    ...systemClock,
    sleep: (_ms: number, stop?: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        if (stop?.aborted) reject(stop.reason);
        stop?.addEventListener('abort', () => reject(stop.reason), { once: true });
      }),
  };

  wake(): void {
    this.#wake?.();
  }
}

function open(options: Partial<HostKeyOptions>, log: string[] = []) {
  const error = (message: string, fields?: object) => void log.push(`${message} ${JSON.stringify(fields)}`);
  return new HostKeys({
    inline: undefined,
    paths: [],
    vault: undefined,
    clock: new Waking().clock,
    log: { ...silentLogger, error },
    ...options,
  });
}

const ids = async (keys: ArtifactKeys) => (await keys.keys(signal)).map(({ keyId }) => keyId).sort();

async function keyFile(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text, { mode: 0o644 });
  return path;
}

describe('keys of a host', () => {
  it('are those of the settings, in whatever form environments have them', async () => {
    const raw = Buffer.from(readPublicKey(ed25519).publicKey).subarray(-32).toString('base64');
    const spki = Buffer.from(readPublicKey(ecdsa).publicKey).toString('base64');
    for (const [inline, pem] of [
      [ed25519, ed25519],
      [ed25519.replaceAll('\n', '\\n'), ed25519],
      [raw, ed25519],
      [spki, ecdsa],
    ] as const) {
      await using keys = open({ inline });
      assert.deepEqual(await ids(keys), [idOf(pem)]);
    }
    await using bad = open({ inline: 'no key' });
    await assert.rejects(
      bad.keys(signal),
      /^LonglineError: there is no key to check artifacts with: programs\.public_key: /,
    );
  });

  it('are those of files and folders, several in a file too', async () => {
    const own = generateSigningKey('ed25519', 'ops');
    const place = join(folder, 'many');
    await mkdir(place);
    await keyFile('many/both.pem', `${ed25519}\n${ecdsa}`);
    await keyFile('many/ops.toml', formatPublicKeyFile({ keyId: 'ops', publicKey: own.publicKey! }));
    await keyFile('many/.hidden', 'no key');
    await symlink(join(place, 'ops.toml'), join(place, 'again.toml'));
    const single = await keyFile('single.pem', ed25519);
    await using keys = open({ paths: [place, single] });
    assert.deepEqual(await ids(keys), [idOf(ecdsa), idOf(ed25519), idOf(ed25519), 'ops', 'ops'].sort());
  });

  it('end with their certificate', async () => {
    const { server } = await makePki();
    const path = await keyFile('certificate.pem', server.certificate);
    await using keys = open({ paths: [path] });
    const [key] = await keys.keys(signal);
    assert.equal(key!.algorithm, 'ecdsa-p256');
    assert.ok(key!.expiresAtMs! > Date.now() && key!.expiresAtMs! < Date.now() + 2 * 3_600_000);
  });

  it('are not read from files that others could have written, and say so once', async () => {
    const loose = await keyFile('loose.pem', ecdsa);
    await chmod(loose, 0o666);
    const weak = await keyFile(
      'weak.pem',
      String(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ type: 'spki', format: 'pem' })),
    );
    const good = await keyFile('good.pem', ed25519);
    const log: string[] = [];
    await using keys = open({ paths: [loose, join(folder, 'absent'), weak, good] }, log);
    assert.deepEqual(await ids(keys), [idOf(ed25519)]);
    assert.deepEqual(await ids(keys), [idOf(ed25519)]);
    assert.equal(log.length, 3);
    assert.match(log.join('\n'), /loose\.pem is refused: it can be written by others.*chmod go-w/);
    assert.match(log.join('\n'), /absent: there is no such file/);
    assert.match(log.join('\n'), /weak\.pem: not a key to use here: it has 1024 bits/);
    await using none = open({ paths: [loose] });
    await assert.rejects(none.keys(signal), { reason: 'unavailable' });
  });

  it('are none without a source, which is no failure', async () => {
    await using keys = open({});
    assert.deepEqual(await keys.keys(signal), []);
  });

  it('change with their files, and so does their version, also while nobody asks', { timeout: 60_000 }, async () => {
    const path = await keyFile('changing.pem', ed25519);
    const waking = new Waking();
    await using keys = open({ paths: [path], clock: waking.clock });
    await keys.keys(signal);
    const { version } = keys;
    await keys.keys(signal);
    assert.equal(keys.version, version);
    await writeFile(`${path}.new`, ecdsa);
    await rename(`${path}.new`, path);
    while (keys.version === version) {
      waking.wake();
      await new Promise(setImmediate);
    }
    assert.deepEqual(await ids(keys), [idOf(ecdsa)]);
    await unlink(path);
    await assert.rejects(keys.keys(signal), { reason: 'unavailable' });
    assert.notEqual(keys.version, version);
  });

  it('are those of Vault too, which takes no others away when it fails', async () => {
    let given: readonly ArtifactKey[] | undefined = [readPublicKey(ecdsa)];
    let disposed = false;
    const vault: ArtifactKeys & Disposable = {
      version: '1',
      keys: () => (given ? Promise.resolve(given) : Promise.reject(new LonglineError('unavailable', 'Vault is away'))),
      [Symbol.dispose]: () => {
        disposed = true;
      },
    };
    {
      await using keys = open({ inline: ed25519, vault });
      assert.equal((await ids(keys)).length, 2);
      given = undefined;
      assert.deepEqual(await ids(keys), [idOf(ed25519)]);
      await using alone = open({ vault });
      await assert.rejects(alone.keys(signal), /no key to check artifacts with: Vault is away/);
    }
    assert.ok(disposed);
  });
});

describe('two looks at once', () => {
  it('give what the later one saw, also if the earlier one ends last', async () => {
    const looks: PromiseWithResolvers<readonly ArtifactKey[]>[] = [];
    const vault: ArtifactKeys & Disposable = {
      version: '1',
      keys: () => {
        const look = Promise.withResolvers<readonly ArtifactKey[]>();
        looks.push(look);
        return look.promise;
      },
      [Symbol.dispose]: () => undefined,
    };
    const keys = open({ vault });
    const [first, second] = [keys.keys(signal), keys.keys(signal)];
    // The one that the watch began is the first of all.
    looks[0]!.resolve([]);
    looks[2]!.resolve([readPublicKey(ecdsa)]);
    assert.equal((await second)[0]!.keyId, idOf(ecdsa));
    const { version } = keys;
    looks[1]!.resolve([readPublicKey(ed25519)]);
    assert.equal((await first)[0]!.keyId, idOf(ecdsa));
    assert.equal(keys.version, version);
    await keys[Symbol.asyncDispose]();
  });
});

describe("the copy of Vault's keys", () => {
  it('is replaced as a whole, and readable by nobody else', async () => {
    const path = join(folder, 'copy.json');
    const copy = keyCopyFile(path);
    assert.equal(await copy.load(), undefined);
    await copy.save('one');
    await copy.save('two');
    assert.equal(await copy.load(), 'two');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    await chmod(path, 0o644);
    await assert.rejects(copy.load(), { reason: 'policy' });
    await assert.rejects(keyCopyFile(join(folder, 'absent', 'copy.json')).save('x'), { reason: 'unavailable' });
  });
});

describe('keys by their settings', () => {
  const settings = (vault: Partial<KeysSetup['vault']>): KeysSetup => ({
    keys: { publicKey: undefined, files: [] },
    vault: {
      url: undefined,
      token: undefined,
      roleId: undefined,
      secretId: undefined,
      appRoleMount: 'approle',
      namespace: undefined,
      caFile: undefined,
      transitMount: 'transit',
      transitKeys: [],
      kvMount: 'secret',
      kvVersion: 2,
      kvPath: undefined,
      ...vault,
    },
    copyPath: join(folder, 'vault-keys.json'),
    clock: new Waking().clock,
    log: silentLogger,
  });

  it('come from Vault, and from the copy once it is away', async () => {
    await using vault = await FakeVault.start();
    vault.roles.set('role', 'secret');
    vault.kv2.set('longline/artifact-keys', { ops: ed25519 });
    const login = { url: `${vault.url}/`, roleId: 'role', secretId: new Secret('secret') };
    {
      await using keys = await openHostKeys(settings(login));
      assert.deepEqual(await ids(keys), ['ops']);
    }
    vault.fault = { kind: 'sealed' };
    await using later = await openHostKeys(settings(login));
    assert.deepEqual(await ids(later), ['ops']);
    await using others = await openHostKeys(settings({ ...login, transitKeys: ['longline'] }));
    await assert.rejects(others.keys(signal), /sealed/);
    assert.deepEqual(vault.violations, []);
  });

  it('are refused without a way in, or with authorities that are not there', async () => {
    await assert.rejects(openHostKeys(settings({ url: 'https://vault.example' })), /needs programs\.vault_token or/);
    const absent = settings({ url: 'https://vault.example', token: new Secret('t'), caFile: join(folder, 'absent') });
    await assert.rejects(openHostKeys(absent), /vault_ca_file: can't read/);
  });
});
