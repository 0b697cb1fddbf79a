import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { encodeSpec, registryAccess } from '../../../src/agent/programs/registry-access.ts';
import { Secret } from '../../../src/core/config/secret.ts';
import type { LinkTarget } from '../../../src/link/ports.ts';
import { HttpRegistry } from '../../../src/platform/registry/http-registry.ts';
import { LonglineRegistry } from '../../fixtures/longline-registry.ts';
import { makePki } from '../../link/certificates.ts';
import { scratchFolder } from '../../link/scratch.ts';

const settings = {
  url: 'controller',
  dialect: 'longline' as const,
  token: undefined,
  ...{ caFile: undefined, certificateFile: undefined, keyFile: undefined },
};
const target = { agentId: 'host-1', instanceId: '', bootId: '', leaderEpoch: 0n };
const never = new AbortController().signal;
const noController = () => Promise.reject(new Error('not asked'));

suite('access to a registry', () => {
  test('of the controller is with the certificate of the link, as it is when it is asked', async () => {
    const pki = await makePki();
    await using registry = await LonglineRegistry.start(pki);
    const { certificate: certificateChain, privateKey } = pki.agent;
    const credentials = {
      kind: 'certificate',
      certificateChain,
      privateKey,
      trustedCertificates: pki.authority,
    } as const;
    const controller = async (): Promise<LinkTarget> => ({ ...target, url: registry.origin, credentials });
    const access = () => registryAccess(settings, controller);
    using client = new HttpRegistry({ dialect: 'longline', hostId: 'host-1', access, encode: encodeSpec });
    assert.equal((await client.poll(never)).kind, 'programs');
    assert.deepEqual(
      registry.requests.map(({ path, client: name }) => [path, name]),
      [
        ['/registry/v1/healthz', 'agent'],
        ['/registry/v1/hosts/host-1/programs', 'agent'],
      ],
    );
  });

  test('of the controller is with the API key and the name of the agent where that is its identity', async () => {
    const credentials = { kind: 'api_key', apiKey: 'ab'.repeat(32), trustedCertificates: 'PEM' } as const;
    const url = 'https://c:7443';
    assert.deepEqual(await registryAccess(settings, async () => ({ ...target, url, credentials })), {
      baseUrl: 'https://c:7443/registry/v1',
      headers: { authorization: `Bearer ${'ab'.repeat(32)}`, 'longline-agent-id': 'host-1' },
      tls: { ca: 'PEM' },
    });
  });

  test('of any other is with what the settings say, and files as they are then', async () => {
    await using folder = await scratchFolder();
    const file = (name: string) => join(folder.path, name);
    for (const name of ['ca', 'cert', 'key']) await writeFile(file(name), name, { mode: 0o600 });
    const own = {
      ...{ ...settings, url: 'https://r/bpf', token: new Secret('t0ken') },
      ...{ caFile: file('ca'), certificateFile: file('cert'), keyFile: file('key') },
    };
    const access = { baseUrl: 'https://r/bpf', headers: { authorization: 'Bearer t0ken' } };
    assert.deepEqual(await registryAccess(own, noController), {
      ...access,
      tls: { ca: 'ca', cert: 'cert', key: 'key' },
    });
    await writeFile(file('cert'), 'renewed');
    assert.equal((await registryAccess(own, noController)).tls.cert, 'renewed');
    await chmod(file('key'), 0o644);
    await assert.rejects(registryAccess(own, noController), {
      reason: 'policy',
      message: /registry_key_file.*chmod 600/,
    });
    const missing = registryAccess({ ...own, caFile: file('gone') }, noController);
    await assert.rejects(missing, { reason: 'unavailable', message: /registry_ca_file: can't read .*gone: ENOENT/ });
  });
});

suite('a spec of a registry', () => {
  test('is ProtoJSON and nothing else', () => {
    const spec = fromBinary(ProgramSpecSchema, encodeSpec({ name: 'p', ttl: '60s', thresholds: { maxErrors: '5' } }));
    assert.deepEqual([spec.name, spec.ttl?.seconds, spec.thresholds?.maxErrors], ['p', 60n, 5n]);
    for (const [wrong, message] of [
      [{ name: 'p', onlyOn: 'arm64' }, /key "onlyOn" is unknown/],
      [{ name: 7 }, /name/],
      ['text', /no ProgramSpec/],
      [null, /no ProgramSpec/],
      [[], /no ProgramSpec/],
    ] as const) {
      assert.throws(() => encodeSpec(wrong), { reason: 'invalid', message });
    }
  });
});
