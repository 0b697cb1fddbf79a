// One trace for each thing asked for: command line, controller and agent as processes of their own, all sending to one collector.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { dockerMissing, sharedDocker } from '../fixtures/engines.ts';
import { type Fleet, startFleet } from '../fixtures/fleet.ts';
import { OtlpReceiver, type SeenSpan } from '../fixtures/otlp-receiver.ts';
import { bpfMissing, PrivateBpffs } from '../fixtures/private-bpffs.ts';
import { newAuthor, testArtifact } from '../fixtures/test-artifact.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';

const NAMES: Readonly<Record<string, string>> = {
  cli: 'longline',
  controller: 'longline-controller',
  agent: 'longline-agent',
};

const RUN_JOB = 'longline.fleet.v1.JobService/RunJob';

/** What comes last of a command, from both its ends. */
const ENDS = [
  ['controller', 'store result'],
  ['agent', 'result'],
] as const;

/** The spans of one trace, by "who: what". */
class Trace {
  readonly spans: readonly SeenSpan[];

  constructor(spans: readonly SeenSpan[]) {
    this.spans = spans;
  }

  get(where: string, name: string): SeenSpan {
    const found = this.find(where, name);
    if (found === undefined) throw new Error(`no ${where}: ${name} among ${this.spans.map((span) => span.name)}`);
    return found;
  }

  find(where: string, name: string): SeenSpan | undefined {
    return this.spans.find((span) => span.service === NAMES[where] && span.name === name);
  }

  /** Asserts that each of these is below the one before. */
  chain(...path: readonly (readonly [where: string, name: string])[]): void {
    for (const [index, [where, name]] of path.entries()) {
      if (index === 0) continue;
      const above = this.get(...path[index - 1]!);
      assert.equal(this.get(where, name).parent, above.id, `${name} is not below ${above.name}`);
    }
  }
}

/** The trace with a span of this name that came since `from`, once `last` are there. */
async function traceOf(
  receiver: OtlpReceiver,
  name: string,
  last: readonly (readonly [string, string])[],
  from: number,
): Promise<Trace> {
  return await receiver.until(`a trace of ${name}`, (spans) => {
    const span = spans.slice(from).find((one) => one.name === name);
    if (span === undefined) return undefined;
    const trace = new Trace(spans.filter(({ traceId }) => traceId === span.traceId));
    return last.every((one) => trace.find(...one) !== undefined) ? trace : undefined;
  });
}

describe('tracing of commands without an engine', () => {
  let receiver: OtlpReceiver;
  let fleet: Fleet;

  before(async () => {
    receiver = await OtlpReceiver.start();
    fleet = await startFleet({ launcher: true, environment: receiver.environment() });
    await fleet.enrolled('a');
  });

  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await receiver?.[Symbol.asyncDispose]();
  });

  it('tells a failed command from the call to its acknowledgement, and nothing of what was in it', async () => {
    const from = receiver.spans.length;
    const outcome = await fleet.longline('job', 'run', '--agent', 'a', '--env', 'KEY=hunter2', '--', 'echo', 'sesame');
    assert.notEqual(outcome.code, 0);
    const trace = await traceOf(receiver, RUN_JOB, ENDS, from);
    const command = ['agent', 'command'] as const;
    trace.chain(['cli', 'longline job run'], ['controller', RUN_JOB], ['controller', 'store']);
    trace.chain(['controller', RUN_JOB], ['controller', 'dispatch'], command, ['agent', 'verify']);
    trace.chain(command, ['agent', 'journal']);
    trace.chain(command, ['agent', 'run']);
    trace.chain(command, ['agent', 'journal result']);
    trace.chain(command, ['agent', 'result'], ['controller', 'store result']);
    const kinds = trace.spans.map(({ name, kind }) => [name, kind.replace('SPAN_KIND_', '').toLowerCase()]);
    const told = ['server', 'producer', 'consumer', 'producer', 'consumer'];
    for (const name of [RUN_JOB, 'dispatch', 'command', 'result', 'store result']) {
      assert.deepEqual(
        kinds.find(([one]) => one === name),
        [name, told.shift()],
      );
    }
    const { status, attributes, statusMessage } = trace.get(...command);
    const outcomeOf = attributes['longline.command.outcome'];
    assert.deepEqual([status, outcomeOf, attributes['error.type']], ['STATUS_CODE_ERROR', 'failed', 'unavailable']);
    assert.match(statusMessage, /no-engine\.sock/);
    assert.equal(trace.get('agent', 'run').status, 'STATUS_CODE_ERROR');
    assert.equal(trace.get('controller', RUN_JOB).attributes['rpc.response.status_code'], 'OK');
    const all = JSON.stringify(receiver.spans, (_, value) => (typeof value === 'bigint' ? String(value) : value));
    assert.doesNotMatch(all, /hunter2|sesame|lle1\.|lla1\./);
  });
});

describe('tracing of what is wanted of an agent', { skip: bpfMissing() ?? false }, () => {
  it('tells a program from the call to its place in the kernel', async () => {
    await using stack = new AsyncDisposableStack();
    const receiver = stack.use(await OtlpReceiver.start());
    const folder = await mkdtemp(join(tmpdir(), 'll-traced-'));
    stack.defer(async () => await rm(folder, { recursive: true, force: true }));
    const bpffs = stack.use(new PrivateBpffs());
    await bpffs.mount();
    const author = newAuthor();
    const [trusted, file] = [join(folder, 'author.pub'), join(folder, 'artifact.tar.zst')];
    await writeFile(trusted, author.publicPem);
    await writeFile(file, await testArtifact('tracepoint', author));
    const fleet = stack.use(await startFleet({ environment: receiver.environment() }));
    await fleet.enrolled('a', ['--programs-key-file', trusted, '--programs-bpf-fs', bpffs.mountPoint]);
    const point = 'tracepoint:sched:sched_process_exit';
    const loaded = await fleet.longline('program', 'load', '--agent', 'a', '--artifact', file, '--attach', point);
    assert.equal(loaded.code, 0, loaded.stderr);
    const trace = await traceOf(receiver, 'longline.fleet.v1.ProgramService/PutProgram', [['agent', 'apply']], 0);
    const call = ['controller', 'longline.fleet.v1.ProgramService/PutProgram'] as const;
    trace.chain(call, ['controller', 'store']);
    trace.chain(call, ['controller', 'dispatch'], ['agent', 'desired state'], ['agent', 'verify']);
    const apply = ['agent', 'apply'] as const;
    trace.chain(['agent', 'desired state'], apply);
    for (const step of ['prepare', 'load', 'attach']) trace.chain(apply, ['agent', step]);
    assert.equal(trace.get(...apply).status, 'STATUS_CODE_UNSET');
    assert.equal(trace.get('agent', 'attach').attributes['longline.subject'], point);
    // What goes on by itself after that is in no trace.
    assert.equal(trace.spans.filter(({ name }) => name === 'apply').length, 1);
  });
});

describe('tracing of a job', { skip: dockerMissing() ?? testImageMissing() ?? false }, () => {
  it('tells each step, and how a job failed', async () => {
    await using stack = new AsyncDisposableStack();
    const receiver = stack.use(await OtlpReceiver.start());
    const engine = await sharedDocker();
    stack.defer(async () => await engine.dispose());
    await loadTestImages(engine);
    const fleet = stack.use(
      await startFleet({ dockerHost: engine.host, environment: receiver.environment('http/protobuf') }),
    );
    await fleet.enrolled('a', ['--allowed-image', TEST_IMAGE]);
    const outcome = await fleet.longline(
      'job',
      'run',
      '--agent',
      'a',
      '--image',
      TEST_IMAGE,
      '--',
      'sh',
      '-c',
      'exit 7',
    );
    assert.equal(outcome.code, 7, outcome.stderr);
    const trace = await traceOf(receiver, RUN_JOB, ENDS, 0);
    const run = ['agent', 'run'] as const;
    trace.chain(
      ['cli', 'longline job run'],
      ['controller', RUN_JOB],
      ['controller', 'dispatch'],
      ['agent', 'command'],
      run,
    );
    for (const step of ['create', 'start', 'container']) trace.chain(run, ['agent', step]);
    const { status, attributes } = trace.get('agent', 'command');
    assert.deepEqual([status, attributes['longline.command.outcome']], ['STATUS_CODE_ERROR', 'failed']);
    assert.equal(trace.get('agent', 'container').attributes['process.exit.code'], '7');
  });
});
