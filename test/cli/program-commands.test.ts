import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs, timestampNow } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  ArtifactSchema,
  ProgramSchema,
  type PutProgramRequest,
  type RollBackProgramRequest,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { ProgramRollbackTrigger, ProgramState } from '#gen/longline/v1/program_pb.js';
import { runCli, type Script, startFleet } from './fixtures.ts';

type Cli = (...argv: string[]) => ReturnType<typeof runCli>;
type Programs = NonNullable<Script['programs']>;

const DIGEST = `sha256:${'ab'.repeat(32)}`;
/** Of "abcd". */
const ABCD = 'sha256:88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589';

async function withFleet(programs: Programs, work: (cli: Cli, folder: string) => Promise<void>) {
  await using fleet = await startFleet({ programs });
  await work((...argv) => runCli(['program', ...argv], { env: { LONGLINE_CONTEXT: fleet.contextPath } }), fleet.folder);
}

const artifact = create(ArtifactSchema, {
  digest: DIGEST,
  size: 1234n,
  metadata: { name: 'drop', version: '1.0.0' },
  signers: ['ops'],
  createTime: timestampNow(),
});

function program(patch: MessageInitShape<typeof ProgramSchema> = {}) {
  const defaults: MessageInitShape<typeof ProgramSchema> = {
    agentId: 'a',
    spec: { name: 'drop', artifact: DIGEST },
    applied: true,
    updateTime: timestampNow(),
  };
  return create(ProgramSchema, Object.assign(defaults, patch));
}

const ACTIVE = {
  name: 'drop',
  state: ProgramState.ACTIVE,
  current: { number: 2n, artifact: DIGEST, artifactName: 'drop', version: '1.0.0', signers: ['ops'] },
  links: [{ function: 'count', attach: 'xdp:eth0', linkId: 7, atomic: true }],
};

test('program load: uploads the file in pieces, asks for just what the options say, and waits until it runs', async () => {
  const asked: PutProgramRequest[] = [];
  const received: Uint8Array[] = [];
  let looks = 0;
  const programs: Programs = {
    uploadArtifact: async (requests) => {
      for await (const { data } of requests) received.push(data);
      return { artifact, created: true };
    },
    putProgram: (request) => {
      asked.push(request);
      return { program: program({ applied: false }), changed: true };
    },
    listPrograms: () => {
      looks += 1;
      return { programs: [looks === 1 ? program({ applied: false }) : program({ status: ACTIVE })] };
    },
  };
  await withFleet(programs, async (cli, folder) => {
    const file = join(folder, 'drop.tar.zst');
    const bytes = Buffer.alloc(600_000, 'x');
    await writeFile(file, bytes);
    const options = ['--attach', 'xdp:eth0', '--attach', 'count@tc:eth1:egress', '--param', 'limit=100', '--ttl', '1h'];
    const { code, err, out } = await cli('load', '--agent', 'a', '--artifact', file, ...options, '--max-errors', '3');
    assert.equal(code, 0, err);
    assert.equal(out, 'a drop: active, revision 2 on xdp:eth0\n');
    assert.deepEqual(err.trim().split('\n'), [`uploaded drop as ${DIGEST}`, 'a drop: waiting', 'a drop: active']);
    assert.deepEqual(Buffer.concat(received), bytes);
    assert.ok(received.length > 1);
    const { agentId, spec, validateOnly } = asked[0]!;
    assert.deepEqual([agentId, validateOnly, spec!.name, spec!.artifact], ['a', false, 'drop', DIGEST]);
    assert.deepEqual(spec!.attach, ['xdp:eth0', 'count@tc:eth1:egress']);
    assert.deepEqual([spec!.parameters, spec!.ttl!.seconds], [{ limit: '100' }, 3600n]);
    assert.deepEqual([spec!.thresholds!.maxErrors, spec!.thresholds!.maxCpuPercent], [3n, undefined]);
  });
});

test('program load: a digest needs no file; --dry-run stores nothing and says what would be', async () => {
  const asked: PutProgramRequest[] = [];
  const programs: Programs = {
    getArtifact: ({ digest }) => {
      assert.equal(digest, 'abababab');
      return { artifact };
    },
    putProgram: (request) => {
      asked.push(request);
      return { program: program({ applied: false }), changed: true };
    },
  };
  await withFleet(programs, async (cli) => {
    const dry = await cli(
      'load',
      '--agent',
      'a',
      '--artifact',
      'abababab',
      '--name',
      'other',
      '--dry-run',
      '--ttl',
      '0',
    );
    assert.equal(dry.code, 0, dry.err);
    assert.equal(dry.out, 'a drop: would be changed\n');
    assert.deepEqual([asked[0]!.validateOnly, asked[0]!.spec!.name], [true, 'other']);
    assert.equal(asked[0]!.spec!.ttl!.seconds, 0n);
    const detached = await cli('load', '--agent', 'a', '--artifact', 'abababab', '--detach', '--json');
    const view = detached.json() as Record<string, unknown>;
    assert.deepEqual([view['state'], view['changed'], view['dry_run']], ['waiting', true, false]);
  });
});

test('program load: what the agent could not do is an exit code, with what the verifier said', async () => {
  const error = { reason: ErrorReason.INVALID, message: 'the verifier refused count' };
  const problems = [{ field: 'verifier', error, verifierLog: 'R1 invalid mem access\nprocessed 3 insns\n' }];
  const failed = program({ status: { ...ACTIVE, state: ProgramState.FAILED, problems } });
  const programs: Programs = {
    getArtifact: () => ({ artifact }),
    putProgram: () => ({ program: failed, changed: true }),
    listPrograms: () => ({ programs: [failed] }),
  };
  await withFleet(programs, async (cli) => {
    const { code, err, out } = await cli('load', '--agent', 'a', '--artifact', DIGEST);
    assert.equal(code, 1);
    assert.equal(out, 'a drop: failed, revision 2 on xdp:eth0\n');
    assert.match(
      err,
      /problem: verifier: the verifier refused count\n {2}R1 invalid mem access\n {2}processed 3 insns\n/,
    );
  });
});

test('program load: an update that can not be had ends it, though the revision before runs on', async () => {
  const error = {
    reason: ErrorReason.IDENTITY,
    message: 'no signature of the artifact is good here',
    retryable: false,
  };
  const problems = [{ field: 'signature', error }];
  const before = { ...ACTIVE.current, artifact: `sha256:${'cd'.repeat(32)}` };
  const status = { ...ACTIVE, wantedArtifact: DIGEST, problems };
  const had = (program_: ReturnType<typeof program>): Programs => ({
    getArtifact: () => ({ artifact }),
    putProgram: () => ({ program: program_, changed: true }),
    listPrograms: () => ({ programs: [program_] }),
  });
  await withFleet(had(program({ status: { ...status, current: before } })), async (cli) => {
    const { code, err } = await cli('load', '--agent', 'a', '--artifact', DIGEST);
    assert.equal(code, 1);
    assert.match(err, /problem: signature: no signature of the artifact is good here/);
  });
  // Where only places or parameters change the artifact is the same, and says nothing.
  await withFleet(had(program({ status })), async (cli) => {
    assert.equal((await cli('load', '--agent', 'a', '--artifact', DIGEST)).code, 1);
  });
  const passing = [{ field: 'fetch', error: { ...error, message: 'nobody answers', retryable: true } }];
  await withFleet(had(program({ status: { ...status, current: before, problems: passing } })), async (cli) => {
    const { code, err } = await cli('load', '--agent', 'a', '--artifact', DIGEST, '--limit', '300ms');
    assert.notEqual(code, 0);
    assert.match(err, /^a drop: active \(fetch: nobody answers\)\n/, 'it is said while it is waited for');
    assert.match(err, /program drop of agent a is active \(fetch: nobody answers\) after 300ms; it goes on/);
  });
});

test('program load: a refused generation, a missing file and a wrong place are errors that say what would be right', async () => {
  const programs: Programs = {
    getArtifact: () => ({ artifact }),
    putProgram: () => ({ program: program(), changed: true }),
    listPrograms: () => ({
      programs: [program({ applied: false, error: { reason: ErrorReason.UNSUPPORTED, message: 'no CAP_BPF' } })],
    }),
  };
  await withFleet(programs, async (cli, folder) => {
    const refused = await cli('load', '--agent', 'a', '--artifact', DIGEST);
    assert.notEqual(refused.code, 0);
    assert.match(refused.err, /error: agent a refused program drop: no CAP_BPF/);
    const missing = await cli('load', '--agent', 'a', '--artifact', join(folder, 'none.tar.zst'));
    assert.equal(missing.code, 3);
    assert.match(missing.err, /none\.tar\.zst: can't be read: there is no such file/);
    const place = await cli('load', '--agent', 'a', '--artifact', DIGEST, '--attach', 'tc:eth0:sideways');
    assert.equal(place.code, 2);
    assert.match(place.err, /"tc:eth0:sideways" is no place to attach to; right would be tc:INTERFACE:ingress\|egress/);
  });
});

test('program ls and show: rows, figures and machine output', async () => {
  const telemetry = { name: 'drop', figures: { packets: 1000n, violations: 2n, cpuPercent: 0.5, runs: 1000n } };
  const rollback = { trigger: ProgramRollbackTrigger.ERRORS, reason: 'errors: 30, at most 10', time: timestampNow() };
  const one = program({ telemetry, status: { ...ACTIVE, lastRollback: rollback } });
  const programs: Programs = {
    listPrograms: ({ filter }) => {
      assert.deepEqual(filter?.states, filter?.name === 'drop' ? [ProgramState.ACTIVE] : []);
      return { programs: [one, program({ agentId: 'b', applied: false })] };
    },
    getProgram: ({ name }) => ({ program: name === 'drop' ? one : program({ status: { name: 'other' } }) }),
  };
  await withFleet(programs, async (cli) => {
    const list = await cli('ls', '--state', 'active', '--name', 'drop');
    assert.equal(list.code, 0, list.err);
    const [heading, first, second] = list.out.split('\n');
    assert.match(heading!, /^AGENT +PROGRAM +STATE +VERSION +ATTACHED +PACKETS/);
    assert.match(first!, /^a +drop +active +1\.0\.0 +xdp:eth0 +1000 +2 +0 +0\.50/);
    assert.match(second!, /^b +drop +waiting +- +- +-/);
    const show = await cli('show', 'drop', '--agent', 'a');
    assert.match(show.out, /runs +drop 1\.0\.0, revision 2, signed by ops/);
    assert.match(show.out, /rolled back +.*: errors: errors: 30, at most 10/);
    assert.match(show.out, /until +for ever/);
    assert.match((await cli('show', 'other', '--agent', 'a')).out, /until +-\n/, 'nothing is loaded whose time runs');
    const [view] = (await cli('ls', '--json')).json() as { state: string; figures: { packets: number } }[];
    assert.deepEqual([view!.state, view!.figures.packets], ['active', 1000]);
  });
});

test('program watch: a line for each change, and it ends after --count', async () => {
  const programs: Programs = {
    watchPrograms: async function* () {
      yield { event: { case: 'program' as const, value: program({ status: ACTIVE }) } };
      yield { event: { case: 'removed' as const, value: { agentId: 'a', name: 'drop' } } };
    },
  };
  await withFleet(programs, async (cli) => {
    const { code, err, out } = await cli('watch', '--count', '2');
    assert.equal(code, 0, err);
    assert.equal(out, 'a drop: active 1.0.0\na drop: gone\n');
  });
});

test('program rollback, rollbacks and release: what came of it', async () => {
  const asked: RollBackProgramRequest[] = [];
  const [from, to] = [
    { number: 3n, version: '1.1.0' },
    { number: 2n, version: '1.0.0' },
  ];
  const base = { program: 'drop', trigger: ProgramRollbackTrigger.REQUEST, time: timestampFromMs(0), reason: 'why' };
  const programs: Programs = {
    rollBackProgram: (request) => {
      asked.push(request);
      if (request.name === 'none') throw new ConnectError('program none: there is no such program', Code.NotFound);
      return { rollback: { ...base, from, ...(request.name === 'first' ? {} : { to }) } };
    },
    listRollbacks: () => ({ rollbacks: [{ agentId: 'a', rollback: { ...base, from, to } }] }),
    releaseQuarantine: ({ artifact: digest }) => ({ artifacts: digest === '' ? [DIGEST] : [] }),
  };
  await withFleet(programs, async (cli) => {
    const back = await cli('rollback', 'drop', '--agent', 'a', '--reason', 'too much');
    assert.equal(back.out, 'a drop: from 1.1.0 (revision 3) back to 1.0.0 (revision 2)\n');
    assert.equal(asked[0]!.reason, 'too much');
    const first = await cli('rollback', 'first', '--agent', 'a');
    assert.equal(first.out, 'a drop: 1.1.0 (revision 3) unloaded; there was none before it\n');
    const none = await cli('rollback', 'none', '--agent', 'a');
    assert.equal(none.code, 3);
    const list = await cli('rollbacks');
    assert.match(list.out, /^a +drop +1\.1\.0 +1\.0\.0 +request +.* +why$/m);
    assert.equal((await cli('release', '--agent', 'a')).out, `a: released ${DIGEST}\n`);
    assert.equal((await cli('release', DIGEST, '--agent', 'a')).out, 'a: nothing is quarantined\n');
  });
});

test('program unload and artifacts: asked, listed, forgotten', async () => {
  const gone: string[] = [];
  const programs: Programs = {
    deleteProgram: ({ name }) => {
      gone.push(name);
      return { program: program({ removing: true }) };
    },
    listPrograms: () => ({ programs: [] }),
    listArtifacts: () => ({ artifacts: [artifact] }),
    getArtifact: ({ digest }) => ({ artifact: { ...artifact, digest: digest === ABCD ? ABCD : DIGEST } }),
    downloadArtifact: async function* () {
      yield { data: Buffer.from('ab') };
      yield { data: Buffer.from('cd') };
    },
    deleteArtifact: ({ digest }) => {
      gone.push(digest);
      return {};
    },
  };
  await withFleet(programs, async (cli, folder) => {
    assert.equal((await cli('unload', 'drop', '--agent', 'a', '--wait')).out, 'drop of a unloaded\n');
    assert.match((await cli('artifact', 'ls')).out, /^sha256:abababababab +drop +1\.0\.0 +1234 +ops/m);
    const out = join(folder, 'copy');
    const other = await cli('artifact', 'get', DIGEST, '--out', out);
    assert.match(other.err, /the controller sent sha256:88d4266f\w+ for sha256:abab\w+; nothing is kept/);
    assert.equal((await cli('artifact', 'get', ABCD, '--out', out)).code, 0);
    assert.equal(await readFile(out, 'utf8'), 'abcd');
    assert.match((await cli('artifact', 'get', ABCD, '--out', out)).err, /--out .*copy: is there already/);
    assert.equal(await readFile(out, 'utf8'), 'abcd', 'it stays');
    const nowhere = await cli('artifact', 'get', ABCD, '--out', join(folder, 'no', 'copy'));
    assert.match(nowhere.err, /--out .*copy: can't be written: ENOENT/);
    assert.equal((await cli('artifact', 'rm', 'sha256:abababab')).out, `${DIGEST} removed\n`);
    assert.deepEqual(gone, ['drop', DIGEST]);
  });
});
