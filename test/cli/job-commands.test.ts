import assert from 'node:assert/strict';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { ListJobsRequest, SubmitJobRequest, TailLogsRequest } from '#gen/longline/fleet/v1/job_service_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import { GapReason } from '#gen/longline/v1/log_pb.js';
import { StatementSchema } from '#gen/longline/v1/signature_pb.js';
import { formatKeyFile, formatPublicKeyFile } from '../../src/core/signing/key-file.ts';
import { ed25519VerificationKey, STATEMENT_PAYLOAD_TYPE, verifyPayload } from '../../src/core/signing/signature.ts';
import { generateSigningKey } from '../../src/core/signing/signing-key.ts';
import { runCli, type Script, startFleet } from './fixtures.ts';
import { chunk, close, ended, gap, jobOf, running, START_MS } from './job-messages.ts';

async function withFleet(
  script: Script,
  work: (cli: (...argv: string[]) => ReturnType<typeof runCli>, folder: string) => Promise<void>,
) {
  await using fleet = await startFleet(script);
  await work((...argv) => runCli(argv, { env: { LONGLINE_CONTEXT: fleet.contextPath } }), fleet.folder);
}

test('job ls: filters go to the controller, an array or a table comes back', async () => {
  let request: ListJobsRequest | undefined;
  const listJobs = (received: ListJobsRequest) => {
    request = received;
    return { jobs: [jobOf(ended({ exitCode: 2 }, JobState.FAILED))] };
  };
  await withFleet({ jobs: { listJobs } }, async (cli) => {
    const filters = ['--agent', 'web-1', '--state', 'failed', '--label', 'a=b', '--since', '2030-01-31T12:00:00Z'];
    const [job] = (await cli('job', 'ls', ...filters, '--json')).json() as Record<string, unknown>[];
    assert.deepEqual([job!['id'], job!['state'], job!['exit_code'], job!['creator']], ['j1', 'failed', 2, 'tester']);
    assert.deepEqual([request!.agentId, request!.states, request!.matchLabels['a']], ['web-1', [JobState.FAILED], 'b']);
    assert.equal(Number(request!.since?.seconds) * 1000, START_MS);
    assert.match((await cli('job', 'ls')).out, /j1 +failed +web-1 +2 .*1\.5s +echo hi/);
    assert.equal((await cli('job', 'ls', '--since', 'yesterday')).code, 2);
  });
});

test('job get and cancel; an unknown job exits with 3', async () => {
  const script: Script = {
    jobs: {
      getJob: ({ jobId }) => {
        if (jobId !== 'j1') throw new ConnectError(`no job ${jobId}`, Code.NotFound);
        return { job: jobOf(ended()) };
      },
      cancelJob: ({ jobId, reason }) => ({ job: { ...jobOf(running()), id: `${jobId}-${reason}` } }),
    },
  };
  await withFleet(script, async (cli) => {
    assert.equal(((await cli('job', 'get', 'j1', '--json')).json() as { agent: string }).agent, 'web-1');
    assert.match((await cli('job', 'get', 'j1')).out, /JOB .*\nj1 +succeeded/);
    assert.equal((await cli('job', 'get', 'j2')).code, 3);
    assert.equal((await cli('job', 'cancel', 'j1', '--reason', 'enough')).out, 'j1-enough running\n');
  });
});

test('job submit and run --detach print the id; the request id is the caller’s or new', async () => {
  const requests: SubmitJobRequest[] = [];
  const submitJob = (request: SubmitJobRequest) => {
    requests.push(request);
    return { job: jobOf(running()) };
  };
  await withFleet({ jobs: { submitJob } }, async (cli) => {
    assert.equal((await cli('job', 'submit', '--any', 'zone=eu', '--request-id', 'mine', '--', 'x')).out, 'j1\n');
    assert.equal((await cli('job', 'run', '-d', '--agent', 'web-1', '--', 'x')).out, 'j1\n');
    assert.equal(
      ((await cli('job', 'submit', '--json', '--agent', 'a', '--', 'x')).json() as { state: string }).state,
      'running',
    );
  });
  assert.equal(requests[0]!.job!.requestId, 'mine');
  assert.equal(requests[0]!.job!.target?.target.case, 'anyOf');
  assert.match(requests[1]!.job!.requestId, /^[0-9a-f-]{36}$/);
});

test('job wait: goes on until done, exits like the job, or with 124 at its limit', async () => {
  let calls = 0;
  const script: Script = {
    jobs: {
      waitResult: ({ jobId }) => {
        calls += 1;
        if (jobId === 'never') return { job: jobOf(running()), done: false };
        return calls < 3
          ? { job: jobOf(running()), done: false }
          : { job: jobOf(ended({ exitCode: 5 }, JobState.FAILED)), done: true };
      },
    },
  };
  await withFleet(script, async (cli) => {
    const result = await cli('job', 'wait', 'j1', '--json');
    assert.equal(result.code, 5);
    assert.equal((result.json() as { exit_code: number }).exit_code, 5);
    assert.equal(calls, 3);
    const late = await cli('job', 'wait', 'never', '--limit', '20ms', '--json');
    assert.equal(late.code, 124);
  });
});

test('job logs: offsets, streams, gaps, JSON lines, timestamps', async () => {
  const requests: TailLogsRequest[] = [];
  async function* tailLogs(request: TailLogsRequest) {
    requests.push(request);
    yield { output: chunk('abc', 4n) };
    yield { output: gap(7n, 17n, GapReason.SPOOL_FULL) };
    yield { output: chunk(Uint8Array.of(0xff, 0x00), 17n) };
    yield { output: chunk('err\n', 4n, 'stderr') };
    yield { output: close() };
  }
  await withFleet({ jobs: { tailLogs } }, async (cli) => {
    const raw = await cli('job', 'logs', 'j1', '--from', '4', '--follow');
    assert.deepEqual(raw.stdout, Buffer.from([97, 98, 99, 0xff, 0]));
    assert.match(raw.err, /^\[longline: 10 bytes lost: spool full\]\nerr\n$/);
    assert.deepEqual([{ ...requests[0]!.from }, requests[0]!.follow], [{ stdout: 4n, stderr: 4n }, true]);
    const lines = (await cli('job', 'logs', 'j1', '--from', 'stdout=4,stderr=4', '--stream', 'stdout', '--json')).out
      .trim()
      .split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)),
      [
        { stream: 'stdout', offset: 4, captured_at: '2030-01-31T12:00:00.000Z', text: 'abc' },
        { stream: 'stdout', lost_bytes: 10, reason: 'spool full' },
        { stream: 'stdout', offset: 17, captured_at: '2030-01-31T12:00:00.000Z', base64: '/wA=' },
        { stream: 'stderr', offset: 4, captured_at: '2030-01-31T12:00:00.000Z', text: 'err\n' },
      ],
    );
    assert.deepEqual(requests[1]!.streams, ['stdout']);
    const stamped = await cli('job', 'logs', 'j1', '--from', '4', '--timestamps');
    assert.match(stamped.err, /2030-01-31T12:00:00\.000Z err\n/);
    assert.equal((await cli('job', 'logs', 'j1', '--from', '-3')).code, 2);
  });
});

test('a job signed here carries its spec, audience and times under a good signature', async () => {
  let request: SubmitJobRequest | undefined;
  const key = generateSigningKey('ed25519');
  const submitJob = (received: SubmitJobRequest) => {
    request = received;
    return { job: jobOf(running()) };
  };
  await withFleet({ jobs: { submitJob } }, async (cli, folder) => {
    const path = join(folder, 'my.key');
    await writeFile(path, formatKeyFile(key), { mode: 0o600 });
    const argv = ['--agent', 'web-1', '--sign-key', path, '--controller-id', 'c1', '--ttl', '10m', '--', 'uptime'];
    assert.equal((await cli('job', 'submit', ...argv)).code, 0);
    const signed = request!.job!.signed!;
    assert.equal(request!.job!.spec, undefined);
    const [signature] = signed.signatures;
    assert.equal(signature!.keyId, key.keyId);
    assert.ok(
      verifyPayload(ed25519VerificationKey(key.publicKey!), STATEMENT_PAYLOAD_TYPE, signed.payload, signature!.value),
    );
    const statement = fromBinary(StatementSchema, signed.payload);
    assert.deepEqual([statement.controllerId, statement.audience?.agentIds], ['c1', ['web-1']]);
    assert.equal(statement.expireTime!.seconds - statement.issueTime!.seconds, 600n);
    assert.equal(statement.nonce.length, 32);
    await chmod(path, 0o640);
    assert.equal((await cli('job', 'submit', ...argv)).code, 4);
    await writeFile(path, formatPublicKeyFile({ keyId: key.keyId, publicKey: key.publicKey! }));
    await chmod(path, 0o600);
    assert.match((await cli('job', 'submit', ...argv)).err, /public key/);
  });
});

test('a job signed offline is submitted byte for byte, to the agent it was signed for', async () => {
  let request: SubmitJobRequest | undefined;
  const submitJob = (received: SubmitJobRequest) => {
    request = received;
    return { job: jobOf(running()) };
  };
  await withFleet({ jobs: { submitJob } }, async (cli, folder) => {
    const keyPath = join(folder, 'my.key');
    const jobPath = join(folder, 'job.json');
    await writeFile(keyPath, formatKeyFile(generateSigningKey('hmac-sha256')), { mode: 0o600 });
    const sign = [
      'job',
      'sign',
      '--sign-key',
      keyPath,
      '--controller-id',
      'c1',
      '--agent',
      'web-1',
      '-o',
      jobPath,
      '--',
      'x',
    ];
    assert.equal((await runCli(sign)).code, 0);
    assert.equal((await cli('job', 'submit', '--signed', jobPath)).code, 0);
    const { payload } = JSON.parse(await readFile(jobPath, 'utf8')) as { payload: string };
    assert.equal(Buffer.from(request!.job!.signed!.payload).toString('base64'), payload);
    assert.deepEqual(request!.job!.target?.target, { case: 'agentId', value: 'web-1' });
    assert.equal((await cli('job', 'submit', '--signed', jobPath, '--image', 'other')).code, 2);
    await writeFile(jobPath, '{"payload_type":"x"}');
    assert.equal((await cli('job', 'submit', '--signed', jobPath)).code, 2);
  });
});
