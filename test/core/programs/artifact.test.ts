import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { fromJson } from '@bufbuild/protobuf';
import fc from 'fast-check';
import tarStream from 'tar-stream';
import { ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import { LonglineError, type Reason } from '../../../src/core/errors.ts';
import { type ArtifactParts, checkObject, openArtifact, packArtifact } from '../../../src/core/programs/artifact.ts';
import {
  generateArtifactKey,
  publicHalf,
  readSigningKey,
  signMetadata,
} from '../../../src/core/programs/artifact-key.ts';
import { readMetadata } from '../../../src/core/programs/metadata-message.ts';
import { readTar, writeTar } from '../../../src/core/programs/tar.ts';
import { verifyArtifact } from '../../../src/core/programs/verification.ts';
import { checkSingleFrame } from '../../../src/core/programs/zstd-frame.ts';
import { metadataOf } from './metadata-fixture.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const parts: ArtifactParts = {
  metadataBytes: bytes('{"name":"drop"}'),
  object: randomBytes(5000),
  signatures: [{ keyId: 'ops', algorithm: 'ed25519', signature: new Uint8Array(64) }],
};
const folder = mkdtempSync(join(tmpdir(), 'artifact-'));
after(() => rmSync(folder, { recursive: true }));

async function refused(
  archive: Uint8Array,
  reason: Reason,
  message: RegExp,
  limits?: Parameters<typeof openArtifact>[1],
) {
  await assert.rejects(openArtifact(archive, limits), (error: unknown) => {
    assert.ok(error instanceof LonglineError, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, message);
    return true;
  });
}

/** A header as tar-stream takes it. */
type Header = Partial<tarStream.Header> & { readonly name: string };

/** An archive by another hand, compressed. */
async function foreign(entries: readonly { readonly header: Header; readonly data?: string }[]) {
  const pack = tarStream.pack();
  for (const { header, data } of entries) {
    if (data === undefined) pack.entry(header);
    else pack.entry(header, data);
  }
  pack.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of pack) chunks.push(chunk as Uint8Array);
  return zstdCompressSync(Buffer.concat(chunks));
}

const file = (name: string, data: string, more: Partial<Header> = {}) => ({
  header: { name, ...more },
  data,
});
/** Writes bytes over those at a place. */
const over = (copy: Buffer, at: number, text: string) => {
  copy.write(text, at);
  return copy;
};
const both = [file('metadata.json', '{}'), file('program.bpf.o', 'elf')];

const FUNCTION = { name: 'count', type: 'PROGRAM_TYPE_XDP' };

/** What can happen to bytes on their way. */
type Damage = { readonly kind: 'cut' | 'flip' | 'insert'; readonly at: number; readonly data: Uint8Array };
const damage: fc.Arbitrary<Damage> = fc.record({
  kind: fc.constantFrom('cut', 'flip', 'insert'),
  at: fc.nat(),
  data: fc.uint8Array({ minLength: 1, maxLength: 600 }),
});

function damaged(input: Uint8Array, { kind, at: place, data }: Damage): Buffer {
  const at = place % input.length;
  if (kind === 'cut') return Buffer.from(input.subarray(0, at));
  if (kind === 'insert') return Buffer.concat([input.subarray(0, at), data, input.subarray(at)]);
  const copy = Buffer.from(input);
  copy[at]! ^= 1 << (data[0]! & 7);
  return copy;
}

describe('artifacts', () => {
  it('are packed and opened, and the same parts make the same bytes', async () => {
    const packed = await packArtifact(parts);
    const opened = await openArtifact(packed);
    assert.deepEqual(Buffer.from(opened.metadataBytes), Buffer.from(parts.metadataBytes));
    assert.deepEqual(Buffer.from(opened.object), Buffer.from(parts.object));
    assert.deepEqual(opened.signatures, parts.signatures);
    assert.equal(opened.digest, `sha256:${createHash('sha256').update(packed).digest('hex')}`);
    assert.deepEqual(await packArtifact({ ...parts }), packed);
    assert.deepEqual((await openArtifact(await packArtifact({ ...parts, signatures: [] }))).signatures, []);
    // Small when it is packed, and not when it isn't.
    const large = new Uint8Array(3_000_000);
    assert.equal((await openArtifact(await packArtifact({ ...parts, object: large }))).object.length, 3_000_000);
  });

  it('are read by tar and zstd, and taken from them', async () => {
    const path = join(folder, 'artifact.tar.zst');
    writeFileSync(path, await packArtifact(parts));
    const list = execFileSync('tar', ['--zstd', '-tf', path], { encoding: 'utf8' });
    assert.deepEqual(list.trim().split('\n'), ['metadata.json', 'program.bpf.o', 'signatures.json']);
    writeFileSync(join(folder, 'metadata.json'), '{"by":"tar"}');
    writeFileSync(join(folder, 'program.bpf.o'), parts.object);
    execFileSync('tar', ['--zstd', '-cf', path, '-C', folder, 'metadata.json', 'program.bpf.o']);
    const opened = await openArtifact(readFileSync(path));
    assert.equal(Buffer.from(opened.metadataBytes).toString(), '{"by":"tar"}');
    assert.deepEqual(Buffer.from(opened.object), parts.object);
  });

  it('are refused with links, devices, folders, other names or the same name twice', async () => {
    assert.equal((await openArtifact(await foreign(both))).signatures.length, 0);
    const more = async (entry: Parameters<typeof foreign>[0][number], message: RegExp) =>
      await refused(await foreign([...both, entry]), 'invalid', message);
    await more({ header: { name: 'signatures.json', type: 'symlink', linkname: '/etc/shadow' } }, /a symbolic link/);
    await more({ header: { name: 'signatures.json', type: 'link', linkname: 'metadata.json' } }, /a hard link/);
    await more({ header: { name: 'signatures.json', type: 'character-device' } }, /a device/);
    await more({ header: { name: 'folder', type: 'directory' } }, /a folder/);
    await more(file('../metadata.json', '{}'), /"\.\.\/metadata\.json" has no place in it; only metadata\.json, /);
    await more(file('/metadata.json', '{}'), /"\/metadata\.json" has no place/);
    await more(file('./metadata.json', '{}'), /"\.\/metadata\.json" has no place/);
    await more(file('metadata.json', '{}'), /"metadata\.json" is there twice/);
    await more(file('program.bpf.o', 'x', { pax: { path: 'metadata.json' } }), /an extended header/);
    await more(file(`${'x'.repeat(120)}/metadata.json`, '{}'), /has no place|extended header/);
    await refused(await foreign([both[0]!]), 'invalid', /has no program\.bpf\.o/);
    await refused(await foreign([both[0]!, file('program.bpf.o', '')]), 'invalid', /an empty program\.bpf\.o/);
    await refused(await foreign([]), 'invalid', /has no metadata\.json/);
    await refused(await foreign([...both, file('signatures.json', '{}')]), 'invalid', /must be a list/);
    await refused(await foreign([...both, file('signatures.json', '[')]), 'invalid', /is no JSON/);
  });

  it('are refused when they are too large, before they take memory', async () => {
    const limits = { compressedBytes: 100_000, unpackedBytes: 1024 * 1024 };
    await refused(new Uint8Array(100_001), 'limit', /has 100001 bytes; at most 100000/, limits);
    const bomb = zstdCompressSync(Buffer.alloc(256 * 1024 * 1024));
    assert.ok(bomb.length < 100_000);
    const before = process.memoryUsage().rss;
    await refused(bomb, 'limit', /more than 1048576 bytes when it is unpacked/, limits);
    assert.ok(process.memoryUsage().rss - before < 128 * 1024 * 1024);
    const large = await foreign([file('metadata.json', 'x'.repeat(300_000))]);
    await refused(large, 'limit', /"metadata\.json" has 300000 bytes; at most 262144/);
    // Says that the decoder needs two gigabytes at once, for a window.
    const greedy = Buffer.from('28b52ffd00a8010000', 'hex');
    await refused(greedy, 'invalid', /can't be unpacked/);
  });

  it('are one frame, however it was made', () => {
    const options = fc.record({
      data: fc
        .uint8Array({ maxLength: 300 })
        .chain((piece) =>
          fc.integer({ min: 0, max: 600 }).map((times) => Buffer.concat(Array<Uint8Array>(times).fill(piece))),
        ),
      level: fc.integer({ min: 1, max: 22 }),
      checksum: fc.boolean(),
      contentSize: fc.boolean(),
      windowLog: fc.integer({ min: 10, max: 20 }),
      tail: fc.uint8Array({ minLength: 1, maxLength: 8 }),
    });
    fc.assert(
      fc.property(options, ({ data, level, checksum, contentSize, windowLog, tail }) => {
        const params = {
          [constants.ZSTD_c_compressionLevel]: level,
          [constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0,
          [constants.ZSTD_c_contentSizeFlag]: contentSize ? 1 : 0,
          [constants.ZSTD_c_windowLog]: windowLog,
        };
        const frame = zstdCompressSync(data, { params, ...(contentSize && { pledgedSrcSize: data.length }) });
        checkSingleFrame(frame);
        assert.throws(() => checkSingleFrame(Buffer.concat([frame, tail])), /bytes after its end/);
        assert.throws(() => checkSingleFrame(frame.subarray(0, -1)), /too early|doesn't begin/);
      }),
      { numRuns: 60 },
    );
  });

  it('are refused with anything before, between or after what they hold', async () => {
    const packed = await packArtifact(parts);
    await refused(Buffer.concat([packed, bytes('x')]), 'invalid', /1 bytes after its end/);
    await refused(Buffer.concat([packed, packed]), 'invalid', /bytes after its end/);
    await refused(Buffer.concat([bytes('x'), packed]), 'invalid', /doesn't begin as one/);
    await refused(new Uint8Array(), 'invalid', /doesn't begin as one/);
    await refused(bytes('no archive at all'), 'invalid', /doesn't begin as one/);
    const archive = zstdDecompressSync(packed);
    const repacked = (change: (copy: Buffer) => Buffer) => zstdCompressSync(change(Buffer.from(archive)));
    await refused(
      repacked((copy) => Buffer.concat([copy, Buffer.alloc(511), bytes('x')])),
      'invalid',
      /after its end/,
    );
    await refused(
      repacked((copy) => Buffer.concat([copy, Buffer.alloc(100 * 1024)])),
      'invalid',
      /after its end/,
    );
    await refused(
      repacked((copy) => copy.subarray(0, -512)),
      'invalid',
      /too early/,
    );
    await refused(
      repacked((copy) => copy.subarray(0, 700)),
      'invalid',
      /within a header/,
    );
    await refused(
      repacked((copy) => copy.subarray(0, 2000)),
      'invalid',
      /within "program\.bpf\.o"/,
    );
    await refused(
      repacked((copy) => over(copy, 600, 'x')),
      'invalid',
      /between "metadata\.json" and/,
    );
    await refused(
      repacked((copy) => over(copy, 0, 'N')),
      'invalid',
      /header at byte 0 is damaged/,
    );
  });

  it('never pass as anything else once they are cut or changed', async () => {
    const signing = readSigningKey(generateArtifactKey('ed25519').privatePem);
    const objectSha256 = createHash('sha256').update(parts.object).digest('hex');
    const said = { name: 'drop', version: '1.0.0', objectSha256, objectSize: '5000', functions: [FUNCTION] };
    const metadataBytes = bytes(JSON.stringify(said));
    const signature = signMetadata(signing, metadataBytes);
    const good = { metadataBytes, object: parts.object, signatures: [{ ...signing, signature }] };
    const packed = await packArtifact(good);
    const archive = zstdDecompressSync(packed);
    const judge = async (changed: Uint8Array) => {
      const { metadataBytes: told, object, signatures } = await openArtifact(changed);
      const keys = [publicHalf(signing)];
      verifyArtifact({ metadataBytes: told, signatures, expiresAtMs: undefined, keys, nowMs: 0, allowUnsigned: false });
      const message = fromJson(ProgramMetadataSchema, JSON.parse(Buffer.from(told).toString()));
      checkObject(readMetadata(message), object);
      return { told, object };
    };
    await judge(packed);
    await fc.assert(
      fc.asyncProperty(damage, fc.boolean(), async (change, inside) => {
        const bad = inside ? zstdCompressSync(damaged(archive, change)) : damaged(packed, change);
        try {
          const { told, object } = await judge(bad);
          // Some bits say nothing: those of the frame, and those of an archive that no reader looks at.
          assert.deepEqual([Buffer.from(told), Buffer.from(object)], [Buffer.from(metadataBytes), parts.object]);
        } catch (error) {
          assert.ok(error instanceof LonglineError, String(error));
          assert.ok(['invalid', 'limit', 'identity', 'policy'].includes(error.reason), error.reason);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('have the object that their metadata tells of', () => {
    const objectSha256 = createHash('sha256').update(parts.object).digest('hex');
    const metadata = metadataOf({ objectSha256, objectSize: 5000 });
    checkObject(metadata, parts.object);
    assert.throws(() => checkObject(metadata, parts.object.subarray(1)), /has 4999 bytes; the metadata says 5000/);
    assert.throws(
      () => checkObject({ ...metadata, objectSha256: '0'.repeat(64) }, parts.object),
      /the metadata says 0000/,
    );
  });
});

describe('the tar of artifacts', () => {
  it('gives back any files of any size', () => {
    const files = new Map([
      ['a', 10_000],
      ['b', 10_000],
    ]);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1200 }), fc.uint8Array({ maxLength: 1200 }), (one, other) => {
        const read = readTar(
          writeTar([
            { name: 'a', data: one },
            { name: 'b', data: other },
          ]),
          { files },
        );
        assert.deepEqual(Buffer.from(read.get('a')!), Buffer.from(one));
        assert.deepEqual(Buffer.from(read.get('b')!), Buffer.from(other));
      }),
    );
  });

  it('takes no bytes at random', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), (junk) => {
        assert.throws(() => readTar(junk, { files: new Map() }), LonglineError);
      }),
    );
  });
});
