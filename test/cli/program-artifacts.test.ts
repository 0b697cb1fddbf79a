import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { openArtifact } from '../../src/core/programs/artifact.ts';
import { pemOf } from '../fixtures/pem.ts';
import { runCli } from './fixtures.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'program-artifacts-'));
  await writeFile(at('count.toml'), METADATA);
});
after(() => rm(folder, { recursive: true }));

const at = (name: string) => join(folder, name);
const OBJECT = new URL('../fixtures/bpf/object/xdp-counter.o', import.meta.url).pathname;

const METADATA = `
name = "count"
version = "1.2.0"
description = "Counts packets."
minimum_kernel = "5.15"
ttl = "2h"
expire_time = 2040-01-31T12:00:00Z
fresh_maps = ["scratch"]

[[functions]]
name = "count_packets"
type = "xdp"
attach = ["xdp:eth0"]

[[parameters]]
name = "limit"
type = "uint"
variable = "limit"
min = "1"
max = "1000"
default = "100"
description = "packets a second"

[counters.packets]
map = "counters"
key = "0"

[counters.others.bytes]
map = "counters"
key = "0"
offset = 8
size = 4

[[events]]
map = "events"
type = "seen"
fields = [{ name = "number", type = "uint", offset = 0, size = 8 }]

[thresholds]
max_errors = 5
max_cpu_percent = 0
`;

async function program(...argv: string[]) {
  const { code, out, err } = await runCli(['program', ...argv]);
  return { code, out, err };
}

async function ok(...argv: string[]): Promise<string> {
  const { code, out, err } = await program(...argv);
  assert.equal(code, 0, err);
  return out;
}

async function refused(code: number, message: RegExp, ...argv: string[]): Promise<void> {
  const found = await program(...argv);
  assert.match(found.err, message);
  assert.equal(found.code, code, found.err);
}

const pack = (...more: string[]) => ['pack', '--object', OBJECT, '--metadata', at('count.toml'), ...more];

async function newKey(type: string): Promise<string> {
  const path = at(`${type}.key`);
  const { code, err } = await runCli(['key', 'generate', '--type', type, '--out', path, '--force']);
  assert.equal(code, 0, err);
  return path;
}

async function publicKey(path: string): Promise<string> {
  const { out } = await runCli(['key', 'show', '--public', path]);
  await writeFile(`${path}.public`, out);
  return `${path}.public`;
}

suite('program pack, inspect and verify', () => {
  test('make an artifact of an object, signed with a key of each kind', async () => {
    const keys = await Promise.all(['ed25519', 'ecdsa-p256', 'rsa-pss'].map(newKey));
    const packed = JSON.parse(
      await ok(...pack(...keys.flatMap((key) => ['--key', key]), '--out', at('count.tar.zst')), '--json'),
    );
    assert.equal(packed.signers.length, 3);
    const opened = await openArtifact(await readFile(at('count.tar.zst')));
    assert.equal(opened.digest, packed.digest);
    assert.deepEqual(Buffer.from(opened.object), await readFile(OBJECT));
    const metadata = JSON.parse(Buffer.from(opened.metadataBytes).toString());
    assert.equal(metadata.objectSize, String(opened.object.length));
    for (const key of keys) {
      const text = await ok('verify', at('count.tar.zst'), '--key', await publicKey(key));
      assert.match(text, /good, count 1\.2\.0 signed by (ed25519|ecdsa-p256|rsa-pss)-[0-9a-f]{16}, until 2040-01-31/);
    }
    const other = at('other.key');
    await runCli(['key', 'generate', '--out', other]);
    await refused(
      4,
      /no signature of the artifact is good here: key "[^"]+" is not known here/,
      'verify',
      at('count.tar.zst'),
      '--key',
      await publicKey(other),
    );
    await refused(
      4,
      /the artifact expired at 2040-01-31/,
      'verify',
      at('count.tar.zst'),
      '--key',
      `${keys[0]}.public`,
      '--at',
      '2041-01-01T00:00:00Z',
    );
    await refused(2, /--key: .*it is a private key/, 'verify', at('count.tar.zst'), '--key', keys[1]!);
  });

  test('show all that an artifact says', async () => {
    await ok(...pack('--unsigned', '--out', at('plain.tar.zst')));
    const text = await ok('inspect', at('plain.tar.zst'));
    for (const line of [
      /^count 1\.2\.0$/m,
      /^ {2}digest +sha256:[0-9a-f]{64}$/m,
      /^ {2}signed by +nobody$/m,
      /^ {2}kernel +from 5\.15 on$/m,
      /^ {2}stays +2h$/m,
      /^ {2}expires +2040-01-31T12:00:00\.000Z$/m,
      /^ {2}function +count_packets \(xdp\) at xdp:eth0$/m,
      /^ {2}parameter +limit \(uint from 1 to 1000 default 100\) → variable limit: packets a second$/m,
      /^ {2}counter +packets: counters\[0\]$/m,
      /^ {2}counter +bytes: counters\[0\] at byte 8, 4 bytes$/m,
      /^ {2}events +program\.seen from events, 10 a second: number:uint$/m,
      /^ {2}rolled back +above 5 errors$/m,
      /^ {2}rolled back +never for cpu %$/m,
      /^ {2}fresh maps +scratch$/m,
    ]) {
      assert.match(text, line);
    }
    const view = JSON.parse(await ok('inspect', at('plain.tar.zst'), '--json'));
    assert.equal(view.metadata.functions[0].name, 'count_packets');
    assert.deepEqual(view.signatures, []);
    await refused(4, /is not signed/, 'verify', at('plain.tar.zst'), '--key', await publicKey(await newKey('ed25519')));
  });

  test('take a signature that was made elsewhere, as OpenSSL and Vault make them', async () => {
    const key = await newKey('ecdsa-p256');
    await ok(...pack('--payload', at('payload')));
    execFileSync('openssl', ['dgst', '-sha256', '-sign', key, '-out', at('sig'), at('payload')]);
    const signature = `vault:v1:${(await readFile(at('sig'))).toString('base64')}`;
    await writeFile(
      at('made.json'),
      JSON.stringify({ keyId: 'vault:longline:v1', algorithm: 'ecdsa-p256', signature }),
    );
    await ok(...pack('--signature', at('made.json'), '--out', at('made.tar.zst')));
    const verify = ['verify', at('made.tar.zst'), '--key', `${key}.pub`];
    assert.match(await ok(...verify, '--key-id', 'vault:longline:v1'), /signed by vault:longline:v1/);
    await refused(4, /"vault:longline:v1" is not known here/, ...verify);
  });

  test('name their keys as they are told', async () => {
    const key = await newKey('rsa-pss');
    const view = JSON.parse(
      await ok(...pack('--key', key, '--key-id', 'ops-2026', '--out', at('named.tar.zst'), '--json')),
    );
    assert.deepEqual(view.signers, ['ops-2026']);
    await refused(2, /--key-id: got "a b"/, ...pack('--key', key, '--key-id', 'a b', '--out', at('x')));
    await refused(
      2,
      /--key-id was given 2 times for 1 keys/,
      ...pack('--key', key, '--key-id', 'a', '--key-id', 'b', '--out', at('x')),
    );
    await refused(
      2,
      /"a" is there twice/,
      ...pack('--key', key, '--key', key, '--key-id', 'a', '--key-id', 'a', '--out', at('x')),
    );
  });

  test('make the same bytes of the same parts, also of the metadata that is in an artifact', async () => {
    const key = await newKey('ed25519');
    await ok(...pack('--key', key, '--out', at('one.tar.zst')));
    const { metadataBytes } = await openArtifact(await readFile(at('one.tar.zst')));
    await writeFile(at('again.json'), metadataBytes);
    await ok('pack', '--object', OBJECT, '--metadata', at('again.json'), '--key', key, '--out', at('two.tar.zst'));
    assert.deepEqual(await readFile(at('one.tar.zst')), await readFile(at('two.tar.zst')));
  });

  test('take the example of the documentation as it stands', async () => {
    const text = await readFile(new URL('../../docs/programs-artifacts.md', import.meta.url), 'utf8');
    await writeFile(at('documented.toml'), /```toml\n(name = [\s\S]*?)```/.exec(text)![1]!);
    const out = at('documented.tar.zst');
    await ok('pack', '--object', OBJECT, '--metadata', at('documented.toml'), '--unsigned', '--out', out);
    const view = JSON.parse(await ok('inspect', out, '--json'));
    assert.equal(view.metadata.parameters.length, 3);
    assert.equal(view.metadata.ttl, '43200s');
  });

  test('say what is wrong, and write nothing then', async () => {
    const out = ['--out', at('never.tar.zst')];
    await refused(2, /who signs it\? Give --key, --signature or --unsigned/, ...pack(...out));
    await refused(2, /what is to be written\?/, ...pack());
    await refused(
      2,
      /is no BPF object; make one with clang/,
      'pack',
      '--object',
      at('count.toml'),
      '--metadata',
      at('count.toml'),
      '--unsigned',
      ...out,
    );
    await refused(
      3,
      /there is no such file/,
      'pack',
      '--object',
      at('absent.o'),
      '--metadata',
      at('count.toml'),
      '--unsigned',
      ...out,
    );
    await refused(2, /can't be read|no such file/, ...pack('--key', at('absent.key'), ...out));
    await refused(
      2,
      /--key: .*it has no private Ed25519 key/,
      ...pack('--key', await publicKey(await newKey('ed25519')), ...out),
    );
    await writeFile(at('bad.json'), '[{"keyId":"a","algorithm":"ed25519","signature":"!"}]');
    await refused(2, /signature: must be base64/, ...pack('--signature', at('bad.json'), ...out));
    const wrong = [
      ['min = "1"', 'min = 1', /parameters\[0\]\.min: is 1; must be a string/],
      ['type = "xdp"', 'type = "xpd"', /functions\[0\]\.type.*must be one of xdp, tc/],
      ['attach = ["xdp:eth0"]', 'attach = ["eth0"]', /functions\[0\]\.attach\[0\].*no place to attach to/],
      ['2040-01-31T12:00:00Z', '2040-01-31', /expire_time.*a time with zone/],
      ['ttl = "2h"', 'ttl = "2h"\nobject_size = 5', /the object has \d+ bytes; the metadata says 5/],
      ['ttl = "2h"', 'tll = "2h"', /tll.*is unknown; known are/],
    ] as const;
    for (const [from, to, message] of wrong) {
      await writeFile(at('wrong.toml'), METADATA.replace(from, to));
      await refused(2, message, 'pack', '--object', OBJECT, '--metadata', at('wrong.toml'), '--unsigned', ...out);
    }
    await assert.rejects(stat(at('never.tar.zst')), { code: 'ENOENT' });
    await writeFile(at('junk'), 'no artifact');
    await refused(2, /junk: not a good zstd frame/, 'inspect', at('junk'));
    await refused(3, /there is no such file/, 'inspect', at('absent'));
    await refused(2, /is no file|can't be read/, 'inspect', folder);
    await writeFile(at('huge'), Buffer.alloc(16 * 1024 * 1024 + 1));
    await refused(1, /has 16777217 bytes; at most 16777216/, 'inspect', at('huge'));
  });

  test('do not believe an artifact whose object is another', async () => {
    await ok(...pack('--unsigned', '--out', at('own.tar.zst')));
    execFileSync('tar', ['--zstd', '-xf', at('own.tar.zst'), '-C', folder]);
    const object = await readFile(at('program.bpf.o'));
    object[object.length - 1]! ^= 1;
    await writeFile(at('program.bpf.o'), object);
    execFileSync('tar', ['--zstd', '-cf', at('own.tar.zst'), '-C', folder, 'metadata.json', 'program.bpf.o']);
    await refused(2, /own\.tar\.zst: the object has [0-9a-f]{64}; the metadata says/, 'inspect', at('own.tar.zst'));
  });
});

suite('keys for artifacts', () => {
  test('are made as PEM, private for their owner alone, and shown without their secret', async () => {
    const path = await newKey('ecdsa-p256');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.match(await readFile(`${path}.pub`, 'utf8'), /^-----BEGIN PUBLIC KEY-----/);
    const shown = await runCli(['key', 'show', path]);
    assert.match(shown.out, /key id +ecdsa-p256-[0-9a-f]{16}/);
    assert.doesNotMatch(shown.out, /PRIVATE/);
    assert.equal((await runCli(['key', 'show', `${path}.pub`])).out, shown.out);
    assert.equal((await runCli(['key', 'show', '--public', path])).out, await readFile(`${path}.pub`, 'utf8'));
    const again = await runCli(['key', 'generate', '--type', 'ecdsa-p256', '--out', path]);
    assert.match(again.err, /exists; a key that is replaced is lost/);
    const named = await runCli(['key', 'generate', '--type', 'rsa-pss', '--out', at('n.key'), '--key-id', 'a']);
    assert.match(named.err, /a key as PEM has no place for it/);
    await writeFile(at('broken.pem'), pemOf('PRIVATE KEY', Buffer.from('secret')));
    const broken = await runCli(['key', 'show', at('broken.pem')]);
    assert.match(broken.err, /key file .*broken\.pem: .*can't be read/);
  });
});
