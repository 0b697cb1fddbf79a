import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs, timestampNow } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import type {
  HibernateSessionRequest,
  ListSessionsRequest,
  PutTemplateRequest,
  SessionRequest,
  StopSessionRequest,
  TailSessionLogsRequest,
} from '#gen/longline/fleet/v1/session_service_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { LogChunkSchema } from '#gen/longline/v1/log_pb.js';
import {
  HibernationTier,
  type Session,
  SessionNetworkMode,
  SessionOperationState,
  SessionPortProtocol,
  SessionSchema,
  SessionState,
  SessionStep,
  SessionStepState,
  SessionVerb,
  SessionVolumeScope,
} from '#gen/longline/v1/session_pb.js';
import { until } from '../link/scratch.ts';
import { MemoryOutput, type RunOptions, runCli, type Script, startFleet } from './fixtures.ts';

type Cli = (...argv: string[]) => ReturnType<typeof runCli>;

async function withFleet(
  script: Script,
  work: (cli: Cli, folder: string, cut: () => void) => Promise<void>,
  output: Pick<RunOptions, 'stdout' | 'stderr'> = {},
) {
  await using fleet = await startFleet(script);
  const env = { LONGLINE_CONTEXT: fleet.contextPath };
  await work(
    (...argv) => runCli(argv, { env, ...output }),
    fleet.folder,
    () => fleet.cut(),
  );
}

function session(
  state: SessionState,
  operation: SessionOperationState,
  init: MessageInitShape<typeof SessionSchema> = {},
) {
  const defaults: MessageInitShape<typeof SessionSchema> = {
    id: 'desk',
    agentId: 'web-1',
    generation: 1n,
    spec: { image: 'desktop:1', owner: 'alice' },
    status: { state, changeTime: timestampNow() },
    operation: { id: 'op', verb: SessionVerb.START, state: operation },
    createTime: timestampNow(),
  };
  return create(SessionSchema, Object.assign(defaults, init));
}

const RUNNING = session(SessionState.RUNNING, SessionOperationState.SUCCEEDED);

async function* changesOf(...sessions: Session[]) {
  for (const value of sessions) yield { change: { case: 'session' as const, value } };
}

test('session start: options, file and command make the spec; follows to the end', async () => {
  let asked: SessionRequest | undefined;
  const script: Script = {
    sessions: {
      submitSession: ({ session: request }) => {
        asked = request;
        return { session: session(SessionState.PENDING, SessionOperationState.PENDING) };
      },
      watchSessions: () => changesOf(session(SessionState.STARTING, SessionOperationState.ACTIVE), RUNNING),
    },
  };
  await withFleet(script, async (cli, folder) => {
    const file = join(folder, 'desk.toml');
    await writeFile(
      file,
      'image = "desktop:1"\nstart_timeout = "90s"\n[env]\nA = 1\n[resources]\nmemory = "1GiB"\n[network]\nmode = "shared"\n',
    );
    const flags = [
      ...['--agent', 'web-1', '--id', 'desk', '--template', 'desktop:2', '--file', file, '-e', 'B=2'],
      ...['--cpus', '2', '--volume', 'owner/home:/home/me', '--volume', 'data:/data:ro', '--owner', 'alice'],
      ...['--port', 'web:8080/http', '--port', '22', '--vnc', '5901', '--pause-after', '10m', '--network', 'none'],
      ...['--health-http', '8080/ok', '--restart', 'always', '--user', '1000:1000', '--cap-add', 'cap_sys_nice'],
      ...['--stop-grace', '3s', '--ttl', '1h', '--label', 'team=x'],
    ];
    const result = await cli('session', 'start', ...flags, '--', 'run', '--fast');
    assert.equal(result.out, 'desk running on web-1\n');
    assert.equal(result.code, 0);
    const spec = asked!.spec!;
    assert.equal(asked!.template, 'desktop:2');
    assert.deepEqual(asked!.target?.target, { case: 'agentId', value: 'web-1' });
    assert.deepEqual(asked!.ttl, durationFromMs(3_600_000));
    assert.notEqual(asked!.requestId, '');
    assert.deepEqual(spec.env, { A: '1', B: '2' });
    assert.deepEqual(spec.command, ['run', '--fast']);
    assert.deepEqual([spec.resources?.cpus, spec.resources?.memoryBytes], [2, 1024n ** 3n]);
    assert.deepEqual(spec.startTimeout, durationFromMs(90_000));
    assert.deepEqual(
      spec.volumes.map(({ scope, name, target, readOnly }) => [scope, name, target, readOnly]),
      [
        [SessionVolumeScope.OWNER, 'home', '/home/me', false],
        [SessionVolumeScope.SESSION, 'data', '/data', true],
      ],
    );
    assert.deepEqual(
      spec.ports.map(({ name, number, protocol }) => [name, number, protocol]),
      [
        ['web', 8080, SessionPortProtocol.HTTP],
        ['p22', 22, SessionPortProtocol.RAW],
      ],
    );
    assert.equal(spec.vnc?.port, 5901);
    assert.equal(spec.network?.mode, SessionNetworkMode.NONE);
    assert.deepEqual(spec.idle?.pauseAfter, durationFromMs(600_000));
    assert.equal(spec.healthCheck?.probe.case === 'http' && spec.healthCheck.probe.value.path, '/ok');
    assert.deepEqual(spec.sandbox?.addCapabilities, ['SYS_NICE']);
    assert.deepEqual(spec.labels, { team: 'x' });
  });
});

test('session start: one object with --json, its id alone when detached', async () => {
  const script: Script = {
    sessions: {
      submitSession: () => ({ session: session(SessionState.PENDING, SessionOperationState.PENDING) }),
      watchSessions: () => changesOf(RUNNING),
    },
  };
  await withFleet(script, async (cli) => {
    const json = await cli('session', 'start', '--any', '*', '--image', 'x:1', '--json');
    assert.equal((json.json() as { state: string }).state, 'running');
    const detached = await cli('session', 'start', '--any', '*', '--image', 'x:1', '-d');
    assert.equal(detached.out, 'desk\n');
  });
});

test('session start: says what is missing before it asks anybody', async () => {
  await withFleet({}, async (cli, folder) => {
    assert.match((await cli('session', 'start', '--image', 'x:1')).err, /--agent ID and --any SELECTOR; none/);
    assert.match((await cli('session', 'start', '--agent', 'a')).err, /--template, --image, or --file/);
    const both = await cli(
      'session',
      'start',
      '--agent',
      'a',
      '--image',
      'x',
      '--health-tcp',
      '1',
      '--health-cmd',
      'x',
    );
    assert.match(both.err, /give one of --health-cmd/);
    assert.match((await cli('session', 'start', '--agent', 'a', '--volume', 'x')).err, /NAME:\/TARGET/);
    const file = join(folder, 'bad.toml');
    await writeFile(
      file,
      'imag = "x"\nstart_timeout = "soon"\n[network]\nmode = "odd"\n[resources]\nmemory = "1 lot"\n',
    );
    const wrong = await cli('session', 'start', '--agent', 'a', '--file', file);
    assert.equal(wrong.code, 2);
    for (const field of ['imag', 'start_timeout', 'network.mode', 'resources.memory']) {
      assert.match(wrong.err, new RegExp(`^ {2}${field}: `, 'm'));
    }
    assert.match(wrong.err, /isolated, shared, named, none/);
  });
});

test('session start: shows each step on a terminal, and why it came to nothing', async () => {
  const step = (progress: object) =>
    session(SessionState.STARTING, SessionOperationState.ACTIVE, {
      operation: { id: 'op', verb: SessionVerb.START, state: SessionOperationState.ACTIVE, progress },
    });
  const error = { reason: ErrorReason.POLICY, message: 'image x is not allowed', rule: 'images' };
  const failed = session(SessionState.FAILED, SessionOperationState.REJECTED, {
    operation: { id: 'op', verb: SessionVerb.START, state: SessionOperationState.REJECTED, error },
  });
  const stderr = new MemoryOutput(true);
  /** The line is drawn ten times a second at most, and what comes between is dropped: told until it is shown. */
  async function* untilShown(text: string, progress: object) {
    for (const endsAtMs = performance.now() + 60_000; !stderr.text.includes(text); await delay(50)) {
      assert.ok(performance.now() < endsAtMs, `${text} is not shown: ${stderr.text}`);
      yield* changesOf(step(progress));
    }
  }
  async function* slowly() {
    const pull = { image: 'desktop:1', layersTotal: 3, layersDone: 1, bytesTotal: 100n, bytesDone: 50n };
    const begun = { step: SessionStep.PULL, state: SessionStepState.BEGUN, subject: 'desktop:1', pull };
    yield* untilShown('layer 1/3', begun);
    yield* untilShown('net-1', { step: SessionStep.NETWORK, state: SessionStepState.UNDONE, subject: 'net-1' });
    yield* changesOf(failed);
  }
  const script: Script = {
    sessions: {
      submitSession: () => ({ session: session(SessionState.PENDING, SessionOperationState.PENDING) }),
      watchSessions: () => slowly(),
    },
  };
  const work = async (cli: Cli) => {
    const result = await cli('session', 'start', '--agent', 'web-1', '--image', 'desktop:1');
    assert.equal(result.code, 4);
    assert.match(result.err, /fetching desktop:1 \[#{12}-{12}\] 50% of 100B?, layer 1\/3/);
    assert.match(result.err, /undoing: making the network net-1/);
    assert.match(result.err, /the start of desk on web-1 rejected: image x is not allowed\]\n {2}decided by: images/);
    assert.match(result.out, /desk failed on web-1/);
  };
  await withFleet(script, work, { stdout: new MemoryOutput(true), stderr });
});

test('session start: goes on following after the connection broke', async () => {
  let calls = 0;
  let cutNow: () => void = () => undefined;
  const script: Script = {
    sessions: {
      submitSession: () => ({ session: session(SessionState.PENDING, SessionOperationState.PENDING) }),
      async *watchSessions() {
        calls += 1;
        yield* changesOf(session(SessionState.STARTING, SessionOperationState.ACTIVE));
        if (calls === 1) {
          cutNow();
          await new Promise(() => undefined);
        }
        yield* changesOf(RUNNING);
      },
    },
  };
  await withFleet(script, async (cli, _folder, cut) => {
    cutNow = () => setImmediate(cut);
    const result = await cli('session', 'start', '--agent', 'web-1', '--image', 'desktop:1');
    assert.equal(result.out, 'desk running on web-1\n');
    assert.equal(calls, 2);
  });
});

test('session stop, hibernate and wake: several at once, what they ask for, how they end', async () => {
  const stops: StopSessionRequest[] = [];
  const naps: HibernateSessionRequest[] = [];
  const answer = (verb: SessionVerb, state: SessionState, id: string) => ({
    session: session(state, SessionOperationState.SUCCEEDED, {
      id,
      operation: { id: 'op', verb, state: SessionOperationState.SUCCEEDED },
    }),
  });
  const script: Script = {
    sessions: {
      stopSession: (request) => {
        stops.push(request);
        return answer(SessionVerb.STOP, SessionState.ENDED, request.sessionId);
      },
      hibernateSession: (request) => {
        naps.push(request);
        return answer(SessionVerb.HIBERNATE, SessionState.PAUSED, request.sessionId);
      },
      wakeSession: ({ sessionId }) => {
        throw new ConnectError(`session ${sessionId} is running and a stop is under way`, Code.Aborted);
      },
    },
  };
  await withFleet(script, async (cli) => {
    const stopped = await cli('session', 'stop', 'one', 'two', '--grace', '5s', '--remove-volumes', '--reason', 'done');
    assert.equal(stopped.out, 'one ended on web-1\ntwo ended on web-1\n');
    assert.deepEqual(
      stops.map(({ sessionId, removeVolumes, reason, grace }) => [sessionId, removeVolumes, reason, grace?.seconds]),
      [
        ['one', true, 'done', 5n],
        ['two', true, 'done', 5n],
      ],
    );
    assert.equal((await cli('session', 'hibernate', 'one', '--tier', 'pause')).out, 'one paused on web-1\n');
    await cli('session', 'hibernate', 'one');
    assert.deepEqual(
      naps.map(({ tier }) => tier),
      [HibernationTier.PAUSE, HibernationTier.STOP],
    );
    const busy = await cli('session', 'wake', 'one');
    assert.equal(busy.code, 1);
    assert.match(busy.err, /a stop is under way/);
  });
});

test('session ls, get and watch', async () => {
  const lists: ListSessionsRequest[] = [];
  const away = session(SessionState.RUNNING, SessionOperationState.SUCCEEDED, {
    id: 'far',
    unknownSince: timestampNow(),
    status: { state: SessionState.RESTARTING, reason: 'exit code 1', restarts: 3 },
    template: 'desktop',
    templateVersion: 2,
  });
  const script: Script = {
    sessions: {
      listSessions: (request) => {
        lists.push(request);
        return { sessions: [RUNNING, away] };
      },
      getSession: () => ({ session: away }),
      watchSessions: () => changesOf(RUNNING, away),
    },
  };
  await withFleet(script, async (cli) => {
    const table = await cli('session', 'ls', '--agent', 'web-1', '--label', 'team=x');
    assert.match(
      table.out,
      /^SESSION +STATE +AGENT +TEMPLATE.*\ndesk +running +web-1 +- +alice.*\nfar +restarting\? +web-1 +desktop:2/,
    );
    assert.equal(lists[0]?.filter?.live, true);
    assert.deepEqual({ ...lists[0]?.filter?.matchLabels }, { team: 'x' });
    await cli('session', 'ls', '--all');
    assert.equal(lists[1]?.filter?.live, false);
    await cli('session', 'ls', '--state', 'failed');
    assert.deepEqual([lists[2]?.filter?.live, lists[2]?.filter?.states], [false, [SessionState.FAILED]]);
    const got = await cli('session', 'get', 'far');
    assert.match(got.out, /why +exit code 1\nagent away +since .* ago/);
    const view = (await cli('session', 'get', 'far', '--json')).json() as Record<string, unknown>;
    assert.deepEqual([view['state'], view['template_version'], view['restarts']], ['restarting', 2, 3]);
    const watched = await cli('session', 'watch');
    assert.match(watched.out, /^desk {2}running {2}web-1\nfar {2}restarting\? {2}web-1 {2}\(exit code 1\)\n$/);
  });
});

test('session top: who uses most first, and those without figures', async () => {
  const sample = {
    sessionId: 'desk',
    cpus: 1.5,
    memoryBytes: 5n * 1024n ** 2n,
    memoryLimitBytes: 1024n ** 3n,
    pids: 7,
  };
  const script: Script = {
    sessions: {
      listSessionUsage: () => ({
        sessions: [
          { sessionId: 'idle', agentId: 'web-1', state: SessionState.PAUSED },
          { sessionId: 'desk', agentId: 'web-1', state: SessionState.RUNNING, sample },
        ],
      }),
    },
  };
  await withFleet(script, async (cli) => {
    const top = await cli('session', 'top');
    assert.match(top.out, /\ndesk +running +web-1 +1\.50 +5\.0MiB \/ 1\.00GiB .* 7\nidle +paused +web-1 +- /);
    const usage = (await cli('session', 'top', '--json')).json() as { id: string; usage: unknown }[];
    assert.deepEqual(
      usage.map(({ id, usage: one }) => [id, one === null]),
      [
        ['desk', false],
        ['idle', true],
      ],
    );
  });
});

test('session logs: every byte once, start after start, also over a broken connection', async () => {
  const requests: TailSessionLogsRequest[] = [];
  let cutNow: () => void = () => undefined;
  const [stdout, stderr] = [new MemoryOutput(), new MemoryOutput()];
  const part = (attempt: number, offset: number, text: string, stream = 'stdout') => ({
    attempt,
    part: {
      case: 'chunk' as const,
      value: create(LogChunkSchema, { stream, offset: BigInt(offset), data: Buffer.from(text) }),
    },
  });
  const script: Script = {
    sessions: {
      async *tailSessionLogs(request) {
        requests.push(request);
        if (requests.length === 1) {
          yield part(1, 0, 'one ');
          yield part(1, 0, 'oops', 'stderr');
          await until('both streams are shown', () => stdout.text === 'one ' && stderr.text === 'oops');
          cutNow();
          await new Promise(() => undefined);
        } else if (requests.length === 2) yield part(1, 4, 'more ');
        else {
          yield part(1, 0, 'one more ');
          yield part(2, 0, 'two');
        }
      },
    },
  };
  await withFleet(
    script,
    async (cli, _folder, cut) => {
      cutNow = () => setImmediate(cut);
      const result = await cli('session', 'logs', 'desk', '--follow');
      assert.equal(result.out, 'one more two');
      assert.match(result.err, /^oops/);
      assert.deepEqual(
        requests.map(({ attempt, from, follow }) => [attempt, from['stdout'], follow]),
        [
          [0, undefined, true],
          [1, 4n, true],
          [0, undefined, true],
        ],
      );
    },
    { stdout, stderr },
  );
});

test('template put, ls, get, rm', async () => {
  const puts: PutTemplateRequest[] = [];
  const removed: string[] = [];
  const template = {
    name: 'desktop',
    version: 3,
    spec: { image: 'desktop:1' },
    description: 'A desktop.',
    creator: 'a',
  };
  const script: Script = {
    sessions: {
      putTemplate: (request) => {
        puts.push(request);
        return { template, changed: puts.length === 1 };
      },
      listTemplates: ({ name }) => ({ templates: name === '' ? [template] : [template, { ...template, version: 2 }] }),
      getTemplate: ({ version }) => ({ template: { ...template, version: version || 3 } }),
      deleteTemplate: ({ name }) => {
        removed.push(name);
        return {};
      },
    },
  };
  await withFleet(script, async (cli, folder) => {
    const toml = join(folder, 'desktop.toml');
    await writeFile(
      toml,
      'description = "A desktop."\nimage = "desktop:1"\n[[volumes]]\nname = "home"\nscope = "owner"\ntarget = "/home"\n',
    );
    assert.equal((await cli('template', 'put', 'desktop', toml, '--base', '2')).out, 'desktop:3\n');
    assert.equal(puts[0]?.description, 'A desktop.');
    assert.equal(puts[0]?.baseVersion, 2);
    assert.equal(puts[0]?.spec?.volumes[0]?.scope, SessionVolumeScope.OWNER);
    const json = join(folder, 'desktop.json');
    await writeFile(json, '{"image":"desktop:1","health_check":{"tcp":{"port":5900},"interval":"5s"}}');
    assert.match((await cli('template', 'put', 'desktop', json)).out, /unchanged/);
    assert.equal(puts[1]?.spec?.healthCheck?.probe.case, 'tcp');
    assert.equal(puts[1]?.baseVersion, undefined);
    assert.match((await cli('template', 'put', 'desktop', join(folder, 'none'))).err, /can't be read/);
    assert.match((await cli('template', 'ls')).out, /desktop +3 +desktop:1 .* A desktop\./);
    assert.equal(((await cli('template', 'ls', 'desktop', '--json')).json() as []).length, 2);
    const got = (await cli('template', 'get', 'desktop:2', '--json')).json() as { version: number };
    assert.equal(got.version, 2);
    assert.equal((await cli('template', 'rm', 'desktop')).out, 'desktop deleted\n');
    assert.deepEqual(removed, ['desktop']);
  });
});
