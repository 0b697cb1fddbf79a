import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { LonglineError } from '../../../src/core/errors.ts';
import { aegisfluxDialect } from '../../../src/platform/registry/aegisflux-dialect.ts';
import { AegisfluxRegistry } from '../../fixtures/aegisflux-registry.ts';
import { failsWith, never, readAll, registryClient } from './registry-harness.ts';

const ARCHIVE = randomBytes(100_000);
const PROGRAM = { name: 'block-icmp-8888', version: '1.0.0', type: 'program', data: ARCHIVE.toString('base64') };

suite('the BPF registry of AegisFlux', () => {
  test('gives the programs of a host and their artifacts, asked only as it is documented', async () => {
    await using registry = await AegisfluxRegistry.start();
    const metadata = { attach: 'xdp:eth0, xdp:eth1', 'param.limit': '100', ttl_sec: '900', hook: 'tc_egress' };
    const id = await registry.assign({ ...PROGRAM, metadata, architecture: 'x86_64' }, 'host-1');
    await registry.assign({ ...PROGRAM, name: 'elsewhere' }, 'host-2');
    using client = registryClient({ baseUrl: registry.url }, { dialect: 'aegisflux' });
    const answer = await client.poll(never);
    assert.ok(answer.kind === 'programs');
    assert.deepEqual(answer.refused, []);
    assert.equal(answer.specs.length, 1);
    const spec = fromBinary(ProgramSpecSchema, answer.specs[0]!);
    const digest = `sha256:${hash('sha256', ARCHIVE)}`;
    assert.deepEqual([spec.name, spec.artifact, spec.attach], ['block-icmp-8888', digest, ['xdp:eth0', 'xdp:eth1']]);
    assert.deepEqual([spec.parameters, spec.ttl?.seconds], [{ limit: '100' }, 900n]);
    assert.deepEqual(await client.poll(never), { kind: 'unchanged' });
    assert.ok(ARCHIVE.equals(await readAll(client, digest)));
    assert.ok(ARCHIVE.equals(await readAll(client, digest, 5000)), 'it knows no ranges and begins anew');
    const asked = registry.requests.filter((one) => one.startsWith('GET'));
    const poll = ['GET /healthz', 'GET /artifacts/for-host/host-1'];
    const binary = `GET /artifacts/${id}/binary`;
    assert.deepEqual(asked, [...poll, ...poll, binary, binary]);
    assert.deepEqual(registry.violations, []);
  });

  test('is asked for its list where an artifact is wanted that no list told of yet', async () => {
    await using registry = await AegisfluxRegistry.start();
    await registry.assign(PROGRAM, 'host-1');
    using client = registryClient({ baseUrl: registry.url }, { dialect: 'aegisflux' });
    assert.ok(ARCHIVE.equals(await readAll(client, `sha256:${hash('sha256', ARCHIVE)}`)));
    const answer = await client.poll(never);
    assert.equal(answer.kind, 'programs', 'what only a download learned of is still told');
    const other = `sha256:${'c'.repeat(64)}`;
    await assert.rejects(readAll(client, other), failsWith('not_found', /lists no artifact sha256:c+ for host host-1/));
    assert.deepEqual(registry.violations, []);
  });

  test('may have several artifacts of one name for a host: the newest is the program', async () => {
    await using registry = await AegisfluxRegistry.start();
    const older = await registry.assign(PROGRAM, 'host-1');
    const data = randomBytes(100);
    await registry.assign({ ...PROGRAM, version: '2.0.0', data: data.toString('base64') }, 'host-1');
    using client = registryClient({ baseUrl: registry.url }, { dialect: 'aegisflux' });
    const answer = await client.poll(never);
    assert.ok(answer.kind === 'programs');
    const specs = answer.specs.map((spec) => fromBinary(ProgramSpecSchema, spec).artifact);
    assert.deepEqual(specs, [`sha256:${hash('sha256', data)}`]);
    assert.deepEqual(
      answer.refused.map(({ item, error }) => [item, error.reason]),
      [[older, 'already_exists']],
    );
  });
});

const CHECKSUM = 'd'.repeat(64);

/** What is refused of one artifact, as "reason: message". */
function refusalOf(artifact: unknown): string {
  const { programs, refused } = aegisfluxDialect.readList({ artifacts: [artifact], total: 1 });
  assert.deepEqual(programs, []);
  return refused.map(({ error }) => `${error.reason}: ${error.message}`).join();
}

suite('a list of that registry', () => {
  test('is also understood as its own agent reads it', () => {
    const artifact = {
      artifact_id: 'a-1',
      name: 'p',
      checksum: CHECKSUM.toUpperCase(),
      parameters: { limit: 5, on: true },
      ttl_sec: 0,
    };
    const { programs, refused, paths } = aegisfluxDialect.readList({
      artifacts: [artifact],
      total: 1,
      next_poll: null,
    });
    const spec = {
      name: 'p',
      artifact: `sha256:${CHECKSUM}`,
      attach: [],
      parameters: { limit: '5', on: 'true' },
      ttl: '0s',
    };
    assert.deepEqual([programs, refused], [[{ item: 'a-1', spec }], []]);
    assert.deepEqual([...paths], [[`sha256:${CHECKSUM}`, 'artifacts/a-1/binary']]);
  });

  test('names what is wrong with an artifact', () => {
    const good = { id: 'a', name: 'p', checksum: CHECKSUM };
    assert.match(refusalOf('text'), /^invalid: /);
    assert.match(refusalOf({ ...good, id: '../../x' }), /^invalid: id: must be 1 to 200/);
    assert.match(refusalOf({ ...good, id: '.' }), /^invalid: id: must be/);
    assert.match(refusalOf({ ...good, name: '' }), /^invalid: name: is missing/);
    assert.match(refusalOf({ ...good, checksum: 'md5' }), /^invalid: checksum: must be the SHA-256/);
    assert.match(refusalOf({ id: 'a', name: 'p' }), /^invalid: checksum/);
    assert.match(refusalOf({ ...good, size: 1e9 }), /^limit: size: is 1000000000 bytes; at most 16777216/);
    assert.match(refusalOf({ ...good, parameters: [] }), /^invalid: parameters: must be an object/);
    assert.match(refusalOf({ ...good, parameters: { a: {} } }), /^invalid: parameters\.a: must be text/);
    assert.match(refusalOf({ ...good, ttl_sec: -1 }), /^invalid: ttl_sec: must be a whole number/);
  });

  test('names the program of an artifact that it can not take, so that what runs of it stays', () => {
    const wrong = { id: 'a', name: 'p', checksum: 'md5' };
    const { refused } = aegisfluxDialect.readList({ artifacts: [wrong, 'text'] });
    assert.deepEqual(
      refused.map(({ item, program }) => [item, program]),
      [
        ['a', 'p'],
        ['artifacts[1]', undefined],
      ],
    );
  });

  test('that was cut is not taken: what is missing would be unloaded', () => {
    const take = (body: unknown) => () => aegisfluxDialect.readList(body);
    assert.throws(
      take({ artifacts: [], total: 3 }),
      failsWith('unavailable', /lists 0 artifacts and says that there are 3/),
    );
    assert.throws(take({ artifacts: null, total: 0 }), failsWith('unavailable', /no list/));
    assert.throws(take([]), failsWith('unavailable', /no list/));
    assert.throws(take({ artifacts: Array(1001).fill({}) }), failsWith('unavailable', /lists 1001 artifacts/));
  });

  test('may hold anything: each artifact is a program or refused, and nothing else is thrown than that there is no list', () => {
    const artifact = fc.record(
      {
        id: fc.oneof(fc.string(), fc.constant('a_1')),
        name: fc.oneof(fc.constantFrom('p', 'q'), fc.anything()),
        checksum: fc.oneof(fc.constant(CHECKSUM), fc.anything()),
        size: fc.anything(),
        metadata: fc.anything(),
        parameters: fc.anything(),
        ttl_sec: fc.anything(),
        updated_at: fc.anything(),
      },
      { requiredKeys: [] },
    );
    const body = fc.oneof(fc.record({ artifacts: fc.array(fc.oneof(artifact, fc.anything())) }), fc.anything());
    fc.assert(
      fc.property(body, (list) => {
        try {
          const { programs, refused } = aegisfluxDialect.readList(list);
          assert.equal(programs.length + refused.length, (list as { artifacts: unknown[] }).artifacts.length);
        } catch (error) {
          assert.ok(error instanceof LonglineError && error.reason === 'unavailable', String(error));
        }
      }),
    );
  });
});
