// Programs put together as an agent does it: real cache, keys, registry and link, over a kernel in memory.
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { access, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { FetchArtifactResponseSchema } from '#gen/longline/link/v1/link_pb.js';
import { agentConfig } from '../../src/agent/config.ts';
import { openPrograms } from '../../src/agent/programs-setup.ts';
import type { ProgramsCapability } from '../../src/capabilities/programs/capability.ts';
import { systemClock } from '../../src/core/clock.ts';
import { resolveConfig } from '../../src/core/config/resolve.ts';
import { artifactDigest, packArtifact } from '../../src/core/programs/artifact.ts';
import { generateArtifactKey, readSigningKey, signMetadata } from '../../src/core/programs/artifact-key.ts';
import type { Link } from '../../src/link/link.ts';
import { MemoryState } from '../capabilities/jobs/jobs-fixture.ts';
import { applyFull, spec, untilLife } from '../capabilities/programs/programs-fixture.ts';
import { AegisfluxRegistry } from '../fixtures/aegisflux-registry.ts';
import { FakeBpfHost, fakeObject } from '../fixtures/fake-bpf-host.ts';
import { FakeKernel } from '../fixtures/fake-kernel-programs.ts';
import { LonglineRegistry } from '../fixtures/longline-registry.ts';
import { missingNats, NatsServer } from '../fixtures/nats-server.ts';
import { AgentSide } from '../link/agent-side.ts';
import { TestController } from '../link/controller-double.ts';
import { RecordedLog, scratchFolder, until } from '../link/scratch.ts';
import { clientOf, closeAll, listen } from '../platform/nats/nats-fixture.ts';

const author = generateArtifactKey('ed25519');

async function signedArtifact(version = '1.0.0'): Promise<{ readonly bytes: Buffer; readonly digest: string }> {
  const functions = [{ name: 'count_packets', type: 'xdp' as const }];
  const object = fakeObject({ functions, maps: ['counters'], variables: ['limit'], mark: version });
  const metadataBytes = Buffer.from(
    JSON.stringify({
      ...{ name: 'counter', version, objectSha256: hash('sha256', object), objectSize: String(object.length) },
      functions: [{ name: 'count_packets', type: 'PROGRAM_TYPE_XDP', attach: ['xdp:eth0'] }],
    }),
  );
  const key = readSigningKey(author.privatePem);
  const { algorithm, keyId } = key;
  const signatures = [{ keyId, algorithm, signature: signMetadata(key, metadataBytes) }];
  const bytes = Buffer.from(await packArtifact({ metadataBytes, object, signatures }));
  return { bytes, digest: artifactDigest(bytes) };
}

/** Programs of an agent whose settings are this TOML; dispose to let go of them. */
async function open(toml: string, link: () => Link | undefined = () => undefined) {
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await scratchFolder());
  const keyFile = join(scratch.path, 'author.pem');
  await writeFile(keyFile, author.publicPem, { mode: 0o644 });
  const text = `agent_id = "host-1"\n[programs]\nkey_files = ["${keyFile}"]\n${toml}`;
  const resolved = resolveConfig(agentConfig, { file: { path: 'agent.toml', text } });
  assert.ok(resolved.ok, JSON.stringify(resolved));
  const host = new FakeBpfHost();
  const log = new RecordedLog();
  const folder = {
    path: scratch.path,
    instanceId: '01980000-0000-7000-8000-000000000001',
    file: (name: string) => join(scratch.path, name),
    [Symbol.dispose]: () => undefined,
  };
  const controller = () => Promise.reject(new Error('not asked'));
  const setup = { config: resolved.config, folder, clock: systemClock, log, link, controller };
  const { capability, begin } = await openPrograms({ ...setup, kernel: new FakeKernel(host) }, stack);
  stack.use(capability);
  const availability = await capability.open({
    ...{ log, clock: systemClock, state: new MemoryState(), signal: new AbortController().signal },
    emit: () => undefined,
  });
  assert.ok(availability.available);
  await capability.adopt();
  begin();
  const all = stack.move();
  return { capability, host, log, folder: scratch.path, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

async function runs(capability: ProgramsCapability): Promise<string | undefined> {
  return (await untilLife(capability, 'counter', 'probation', 'active')).current?.artifact;
}

suite('programs of an agent', () => {
  test('come from a registry that is polled, checked with the keys of the host, and are kept', async () => {
    await using registry = await LonglineRegistry.start();
    const { bytes, digest } = await signedArtifact();
    registry.store(bytes);
    registry.programs = [{ name: 'counter', artifact: digest }];
    await using agent = await open(`registry_url = "${registry.url}"\npoll_interval = "1s"`);
    assert.equal(await runs(agent.capability), digest);
    assert.deepEqual(agent.host.runningAt('xdp:eth0'), [{ program: 'counter', revision: 1 }]);
    assert.deepEqual(await readdir(join(agent.folder, 'artifacts')), [digest.slice('sha256:'.length)]);
    assert.equal(agent.capability.look()[0]?.source, 'registry');
    assert.equal(agent.capability.look()[0]?.current?.signers.length, 1);
  });

  test('come from the controller over the link, into the folder of the settings', async () => {
    await using scratch = await scratchFolder();
    await using controller = await TestController.start();
    const { bytes, digest } = await signedArtifact('2.0.0');
    controller.onFetch = (call) => {
      call.write(create(FetchArtifactResponseSchema, { size: BigInt(bytes.length), data: bytes }));
      call.end();
    };
    await using side = await AgentSide.open(join(scratch.path, 'link'), () => controller.port);
    await side.start();
    const cache = join(scratch.path, 'cache');
    await using agent = await open(`cache_dir = "${cache}"`, () => side.link);
    await applyFull(agent.capability, 1, [spec('counter', digest)]);
    assert.equal(await runs(agent.capability), digest);
    assert.deepEqual(await readdir(cache), [digest.slice('sha256:'.length)]);
    await assert.rejects(access(join(agent.folder, 'artifacts')), { code: 'ENOENT' });
  });

  test('that nobody trusted signed are not loaded, and are told with the reason', async () => {
    await using registry = await LonglineRegistry.start();
    const functions = [{ name: 'count_packets', type: 'xdp' as const }];
    const object = fakeObject({ functions, maps: [], variables: [], mark: 'unsigned' });
    const metadata = {
      ...{ name: 'counter', version: '1.0.0', objectSha256: hash('sha256', object), objectSize: String(object.length) },
      functions: [{ name: 'count_packets', type: 'PROGRAM_TYPE_XDP', attach: ['xdp:eth0'] }],
    };
    const metadataBytes = Buffer.from(JSON.stringify(metadata));
    const digest = registry.store(Buffer.from(await packArtifact({ metadataBytes, object, signatures: [] })));
    registry.programs = [{ name: 'counter', artifact: digest }];
    await using agent = await open(`registry_url = "${registry.url}"`);
    const { problems } = await untilLife(agent.capability, 'counter', 'failed');
    assert.deepEqual([problems[0]?.field, problems[0]?.error.reason], ['signature', 'policy']);
    assert.deepEqual(agent.host.runningAt('xdp:eth0'), []);
  });

  test('come from a registry of AegisFlux, which holds an archive of ours', async () => {
    await using registry = await AegisfluxRegistry.start();
    const { bytes, digest } = await signedArtifact();
    await registry.assign({ name: 'counter', version: '1', type: 'program', data: bytes.toString('base64') }, 'host-1');
    await using agent = await open(`registry_url = "${registry.url}"\nregistry_dialect = "aegisflux"`);
    assert.equal(await runs(agent.capability), digest);
    assert.deepEqual(registry.violations, []);
  });

  test('are told of over NATS, and rolled back from there', { skip: missingNats }, async () => {
    await using server = await NatsServer.start();
    const { heard } = await listen(server.address);
    try {
      await using registry = await LonglineRegistry.start();
      const { bytes, digest } = await signedArtifact();
      registry.store(bytes);
      registry.programs = [{ name: 'counter', artifact: digest }];
      await using agent = await open(`registry_url = "${registry.url}"\nnats_url = ["${server.url}"]`);
      await runs(agent.capability);
      const told = (status: string) => heard.find(({ data }) => data['status'] === status);
      await until('it is told as loaded', () => told('loaded') !== undefined);
      assert.equal(told('loaded')?.data['artifact_id'], digest);
      const orchestrator = await clientOf(server.address);
      orchestrator.publish('orchestrator.rollback.host-1', JSON.stringify({ artifact_id: digest, reason: 'by hand' }));
      await until('it is told as rolled back', () => told('rolled_back') !== undefined);
      assert.deepEqual(
        agent.capability.rollbacks().map(({ requestedBy, reason }) => [requestedBy, reason]),
        [['nats', 'by hand']],
      );
      assert.deepEqual(agent.host.runningAt('xdp:eth0'), []);
    } finally {
      await closeAll();
    }
  });

  test('do not load the client of NATS where none is named, and refuse one that can not be', async () => {
    await using agent = await open('');
    assert.ok(!agent.log.has('info', 'NATS'));
    await assert.rejects(
      open('nats_url = ["nats://127.0.0.1:1"]\nnats_credentials_file = "/nonexistent"\ntelemetry_subject = "$SYS.x"'),
      {
        reason: 'invalid',
        message: /begins with "\$"/,
      },
    );
  });
});
