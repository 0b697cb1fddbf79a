import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { JobSpecSchema, NetworkMode, StdinMode } from '#gen/longline/v1/job_pb.js';
import { parseJobsConfig } from '../../../src/capabilities/jobs/config.ts';
import { parseJobSpec } from '../../../src/capabilities/jobs/spec.ts';
import { decodeJobAction, type JobSpecMessage } from '../../../src/capabilities/jobs/wire.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { encodeJobAction } from './job-messages.ts';

const CONFIG = parseJobsConfig({ allowedImages: ['alpine', 'ubuntu:latest'] });
const MIB = 1024 * 1024;
type Init = Parameters<typeof create<typeof JobSpecSchema>>[1];

function parse(init: Init) {
  return parseJobSpec(create(JobSpecSchema, init), CONFIG);
}

function wrongFields(init: Init): readonly string[] {
  try {
    parse(init);
    return [];
  } catch (error) {
    assert.ok(error instanceof LonglineError && error.reason === 'invalid');
    return error.violations.map((violation) => violation.field);
  }
}

suite('a job spec', () => {
  test('takes every default and is frozen', () => {
    const spec = parse({ shell: 'echo hi' });
    assert.deepEqual(spec, {
      argv: ['/bin/sh', '-c', 'echo hi'],
      image: {
        text: 'alpine:latest',
        registry: 'docker.io',
        repository: 'library/alpine',
        tag: 'latest',
        digest: undefined,
      },
      pullPolicy: 'if_missing',
      env: {},
      workingDir: '',
      input: { kind: 'none' },
      cpus: 0.5,
      memoryBytes: 256 * MIB,
      pids: 64,
      tmpBytes: 64 * MIB,
      timeoutMs: 300_000,
      stopGraceMs: 10_000,
      outputBytes: 64 * MIB,
      network: { mode: 'none' },
      mounts: [],
      user: '65534:65534',
      addCapabilities: [],
      writableRoot: false,
      allowNewPrivileges: false,
      runtime: '',
      requiredScopes: [],
    });
    assert.throws(() => Object.assign(spec, { user: 'root' }), TypeError);
    assert.throws(() => (spec.argv as string[]).push('x'), TypeError);
  });

  test('takes what is given', () => {
    const spec = parse({
      argv: ['a', ''],
      image: 'alpine:3',
      env: { B: '2', A: '1' },
      workingDir: '/w',
      stdinMode: StdinMode.INLINE,
      stdinData: Uint8Array.of(1),
      resources: { cpus: 2, memoryBytes: BigInt(64 * MIB), pids: 5, tmpBytes: 8192n },
      timeout: { seconds: 1n, nanos: 500_000_001 },
      stopGrace: { seconds: 0n },
      maxOutputBytes: 0n,
      networkMode: NetworkMode.NAMED,
      networkName: 'lab',
      mounts: [{ source: '/srv/data', target: '/data' }],
      sandbox: {
        user: 'app:app',
        addCapabilities: ['NET_RAW', 'CHOWN', 'CHOWN'],
        writableRoot: true,
        runtime: 'runsc',
      },
    });
    assert.deepEqual(Object.keys(spec.env), ['A', 'B']);
    assert.equal(spec.timeoutMs, 1501);
    assert.equal(spec.stopGraceMs, 0);
    assert.equal(spec.outputBytes, 0);
    assert.deepEqual(spec.network, { mode: 'named', name: 'lab' });
    assert.deepEqual(spec.addCapabilities, ['CHOWN', 'NET_RAW']);
    assert.deepEqual(spec.mounts, [{ source: '/srv/data', target: '/data', writable: false }]);
  });

  const argv = ['x'];
  for (const [field, init] of [
    ['spec.argv', {}],
    ['spec.argv', { argv, shell: 'x' }],
    ['spec.argv[0]', { argv: [''] }],
    ['spec.argv', { argv: ['a\0b'] }],
    ['spec.argv', { argv: ['x'.repeat(200_000)] }],
    ['spec.shell', { shell: 'x'.repeat(200_000) }],
    ['spec.image', { argv, image: 'alpine:' }],
    ['spec.image', { argv, image: 'debian' }],
    ['spec.image', { argv, image: 'ubuntu:22.04' }],
    ['spec.env', { argv, env: { '1A': '' } }],
    ['spec.env', { argv, env: { 'A=B': '' } }],
    ['spec.env["A"]', { argv, env: { A: 'x\0' } }],
    ['spec.env', { argv, env: { A: 'x'.repeat(70_000) } }],
    ['spec.working_dir', { argv, workingDir: 'tmp' }],
    ['spec.stdin_mode', { argv, stdinMode: 9 as StdinMode }],
    ['spec.stdin_data', { argv, stdinData: Uint8Array.of(1) }],
    ['spec.stdin_data', { argv, stdinMode: StdinMode.INLINE, stdinData: new Uint8Array(MIB + 1) }],
    ['spec.resources.cpus', { argv, resources: { cpus: 0 } }],
    ['spec.resources.cpus', { argv, resources: { cpus: Number.NaN } }],
    ['spec.resources.cpus', { argv, resources: { cpus: Number.POSITIVE_INFINITY } }],
    ['spec.resources.memory_bytes', { argv, resources: { memoryBytes: 1n } }],
    ['spec.resources.memory_bytes', { argv, resources: { memoryBytes: 2n ** 64n - 1n } }],
    ['spec.resources.pids', { argv, resources: { pids: 0 } }],
    ['spec.resources.tmp_bytes', { argv, resources: { tmpBytes: 0n } }],
    ['spec.timeout', { argv, timeout: { seconds: 0n } }],
    ['spec.timeout', { argv, timeout: { seconds: -5n } }],
    ['spec.timeout', { argv, timeout: { seconds: 2n ** 62n } }],
    ['spec.timeout', { argv, timeout: { seconds: 1n, nanos: -1 } }],
    ['spec.stop_grace', { argv, stopGrace: { seconds: 1000n } }],
    ['spec.max_output_bytes', { argv, maxOutputBytes: 2n ** 60n }],
    ['spec.network_mode', { argv, networkMode: 77 as NetworkMode }],
    ['spec.network_name', { argv, networkName: 'lab' }],
    ['spec.network_name', { argv, networkMode: NetworkMode.NAMED }],
    ['spec.network_name', { argv, networkMode: NetworkMode.NAMED, networkName: 'host' }],
    ['spec.network_name', { argv, networkMode: NetworkMode.NAMED, networkName: 'container:other' }],
    ['spec.mounts[0].source', { argv, mounts: [{ source: '../x', target: '/x' }] }],
    ['spec.mounts[0].source', { argv, mounts: [{ source: '/a/../etc', target: '/x' }] }],
    ['spec.mounts[0].source', { argv, mounts: [{ source: '/a,ro', target: '/x' }] }],
    ['spec.mounts[0].target', { argv, mounts: [{ source: '/a', target: '/' }] }],
    ['spec.mounts[0].target', { argv, mounts: [{ source: '/a', target: '/proc/sys' }] }],
    ['spec.mounts[0].target', { argv, mounts: [{ source: '/a', target: '/.longline/busybox' }] }],
    [
      'spec.mounts[1].target',
      {
        argv,
        mounts: [
          { source: '/a', target: '/x' },
          { source: '/b', target: '/x' },
        ],
      },
    ],
    ['spec.sandbox.user', { argv, sandbox: { user: 'a:b:c' } }],
    ['spec.sandbox.user', { argv, sandbox: { user: '4294967295' } }],
    ['spec.sandbox.add_capabilities[0]', { argv, sandbox: { addCapabilities: ['ALL'] } }],
    ['spec.sandbox.add_capabilities[0]', { argv, sandbox: { addCapabilities: ['CAP_CHOWN'] } }],
    ['spec.sandbox.runtime', { argv, sandbox: { runtime: '/bin/sh' } }],
    ['spec.required_scopes[0]', { argv, requiredScopes: [''] }],
    ['spec.metadata', { argv, metadata: { prompt: 'x'.repeat(70_000) } }],
  ] as const satisfies readonly (readonly [string, Init])[]) {
    test(`is refused for ${field} in ${JSON.stringify(init, short).slice(0, 90)}`, () => {
      assert.deepEqual(wrongFields(init as Init), [field]);
    });
  }

  test('never makes the parser throw anything but a list of fields', () => {
    const strings = fc.string({ unit: 'binary', maxLength: 12 });
    const spec = fc.record({
      argv: fc.array(strings, { maxLength: 3 }),
      shell: strings,
      image: strings,
      env: fc.dictionary(strings, strings, { maxKeys: 3 }),
      workingDir: strings,
      stdinMode: fc.integer() as fc.Arbitrary<StdinMode>,
      networkMode: fc.integer() as fc.Arbitrary<NetworkMode>,
      networkName: strings,
      requiredScopes: fc.array(strings, { maxLength: 2 }),
    });
    fc.assert(
      fc.property(spec, (init) => void wrongFields(init)),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        let message: JobSpecMessage;
        try {
          message = decodeJobAction(bytes);
        } catch (error) {
          assert.ok(error instanceof LonglineError);
          return;
        }
        wrongFields(message);
      }),
      { numRuns: 500 },
    );
  });

  test('is refused in few words, however much is wrong with it', () => {
    const sandbox = { addCapabilities: Array.from({ length: 100_000 }, () => 'x') };
    const env = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`-${index}`, '']));
    assert.throws(
      () => parse({ argv: ['id'], image: 'alpine', sandbox, env }),
      (error: unknown) => {
        assert.ok(error instanceof LonglineError);
        assert.equal(error.violations.length, 50);
        assert.ok(error.message.length < 10_000);
        return true;
      },
    );
  });

  test('passes the wire unchanged', () => {
    assert.deepEqual(
      decodeJobAction(encodeJobAction({ argv: ['a'], image: 'b' })),
      create(JobSpecSchema, { argv: ['a'], image: 'b' }),
    );
  });
});

suite('settings of jobs', () => {
  test('are refused with every wrong key', () => {
    const wrong = {
      maxConcurrent: 0,
      allowedImages: ['ok', 'not ok'],
      defaults: { cpus: 100, image: 'UPPER', timeoutMs: 1.5 },
      limits: { memoryBytes: 1 },
    };
    assert.throws(
      () => parseJobsConfig(wrong),
      (error: unknown) => {
        assert.ok(error instanceof LonglineError);
        const fields = error.violations.map((violation) => violation.field).sort();
        const expected = ['allowed_images[1]', 'defaults.cpus', 'defaults.image', 'defaults.memory_bytes'];
        assert.deepEqual(fields, [...expected, 'defaults.timeout_ms', 'limits.memory_bytes', 'max_concurrent'].sort());
        return true;
      },
    );
    assert.ok(Object.isFrozen(parseJobsConfig({}).defaults));
  });
});

function short(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return typeof value === 'string' && value.length > 20 ? `${value.slice(0, 20)}…` : value;
}
