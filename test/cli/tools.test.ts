import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { create } from '@bufbuild/protobuf';
import { Server, ServerCredentials, type sendUnaryData } from '@grpc/grpc-js';
import {
  type ExplainJobRequest,
  ExplainJobResponseSchema,
  type ExplainSessionRequest,
  ExplainSessionResponseSchema,
  GetStatusResponseSchema,
  ListCommandsResponseSchema,
  LocalService,
} from '#gen/longline/local/v1/local_pb.js';
import { NetworkMode } from '#gen/longline/v1/job_pb.js';
import { SessionNetworkMode } from '#gen/longline/v1/session_pb.js';
import { checkBusybox, checkCgroups, checkDataFolder, checkNode, checkUser } from '../../src/cli/doctor/host-checks.ts';
import { grpcServiceDefinition } from '../../src/core/grpc-definition.ts';
import { runCli, startFleet } from './fixtures.ts';

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'longline-tools-'));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function bashCompletions(script: string, words: readonly string[]): Promise<string[]> {
  const quoted = words.map((word) => `'${word}'`).join(' ');
  const program = `source ${script}\nCOMP_WORDS=(${quoted})\nCOMP_CWORD=${words.length - 1}\n_longline_complete\nprintf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await promisify(execFile)('bash', ['--norc', '-c', program]);
  return stdout.trim().split('\n');
}

test('bash completes commands, subcommands and options of where the cursor is', async () => {
  await withFolder(async (folder) => {
    const script = join(folder, 'completion.bash');
    await writeFile(script, (await runCli(['completion', 'bash'])).out);
    assert.deepEqual(await bashCompletions(script, ['longline', 'agen']), ['agent', 'agents']);
    assert.deepEqual(await bashCompletions(script, ['longline', 'token', 'api', 'c']), ['create']);
    assert.deepEqual(await bashCompletions(script, ['longline', 'job', 'run', '--wr']), ['--writable-root']);
    assert.deepEqual(await bashCompletions(script, ['longline', '--context', 'job', 'vers']), ['version']);
    assert.deepEqual(await bashCompletions(script, ['longline', 'job', 'run', '--', '--wr']), ['']);
    assert.deepEqual(await bashCompletions(script, ['longline', 'nothing', '--js']), ['--json']);
  });
});

test('the scripts for zsh and fish name every command', async () => {
  for (const shell of ['zsh', 'fish']) {
    const { out } = await runCli(['completion', shell]);
    for (const path of ['job run', 'agents ls', 'token api create', 'doctor'])
      assert.ok(out.includes(`'${path}'`), `${shell}: ${path}`);
  }
  assert.equal((await runCli(['completion', 'cmd'])).code, 2);
});

test('every command has help with an exit code of 0', async () => {
  const tree = (await runCli(['completion', 'bash'])).out;
  const paths = [...tree.matchAll(/^ {4}'([a-z ]+)'\)/gm)].map((match) => match[1]!);
  assert.ok(paths.length > 40, `only ${paths.length} commands`);
  for (const path of paths.filter((one) => !/^help|( |^)help$/.test(one))) {
    const result = await runCli([...path.split(' '), '--help']);
    assert.equal(result.code, 0, path);
    assert.match(result.out, new RegExp(`Usage: longline ${path}`), path);
  }
});

test('config reference, example and check', async () => {
  await withFolder(async (folder) => {
    assert.match(
      (await runCli(['config', 'reference', 'agent'])).out,
      /\| `jobs\.max_concurrent` \| `--jobs-max-concurrent` \|/,
    );
    const flags = (await runCli(['config', 'reference', 'controller', '--json'])).json() as { flag: string }[];
    assert.ok(flags.some((one) => one.flag === '--listen'));
    const path = join(folder, 'agent.toml');
    await writeFile(path, (await runCli(['config', 'example', 'agent'])).out);
    assert.equal((await runCli(['config', 'check', 'agent', '--config', path])).code, 0);
    const env = { LONGLINE_TOKEN: 'lle1.secret.hash', LONGLINE_REGIO: 'eu' };
    const checked = await runCli(['config', 'check', 'agent', '--config', path, '--label', 'a=b', '--json'], { env });
    const rows = checked.json() as { key: string; value: string; source: string }[];
    assert.deepEqual(
      rows.find((row) => row.key === 'labels'),
      { key: 'labels', value: '{ "a" = "b" }', source: 'flag --label' },
    );
    assert.ok(!checked.out.includes('lle1.'), 'no token is told');
    assert.match(checked.err, /LONGLINE_REGIO .*LONGLINE_REGION/);
    await writeFile(path, '[jobs]\nmax_concurent = 3\ndefault_cpus = 0\n');
    const wrong = await runCli(['config', 'check', 'agent', '--config', path]);
    assert.equal(wrong.code, 2);
    assert.match(wrong.err, /did you mean jobs\.max_concurrent/);
    assert.match(wrong.err, /jobs\.default_cpus: 0 .*0\.01 to 1024/);
    assert.equal((await runCli(['config', 'check', 'agent', '--config', join(folder, 'none')])).code, 2);
  });
});

test('a secret file that others may read is refused', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'token');
    await writeFile(path, 'lle1.secret.hash\n', { mode: 0o600 });
    assert.equal((await runCli(['config', 'check', 'agent', '--token-file', path])).code, 0);
    await chmod(path, 0o644);
    const loose = await runCli(['config', 'check', 'agent', '--token-file', path]);
    assert.equal(loose.code, 2);
    assert.match(loose.err, /token_file: .*chmod 600/);
  });
});

test('agent and controller refuse to start with wrong settings', async () => {
  assert.match((await runCli(['agent'])).err, /--controller URL/);
  const wrong = await runCli(['controller', '--listen', 'nowhere', '--json']);
  assert.equal(wrong.code, 2);
  const { error } = JSON.parse(wrong.err) as { error: { violations: { field: string }[] } };
  assert.deepEqual(
    error.violations.map((one) => one.field),
    ['listen'],
  );
});

test('status and its commands come from the agent’s socket; without one it says so', async () => {
  await withFolder(async (folder) => {
    const server = new Server();
    server.addService(grpcServiceDefinition(LocalService), {
      getStatus: (_call: unknown, done: sendUnaryData<object>) =>
        done(
          null,
          create(GetStatusResponseSchema, {
            agentId: 'web-1',
            linkState: 'open',
            controller: 'https://c',
            usage: { maxJobs: 5 },
          }),
        ),
      listCommands: (_call: unknown, done: sendUnaryData<object>) =>
        done(
          null,
          create(ListCommandsResponseSchema, { commands: [{ id: 'c1', capability: 'jobs', state: 'running' }] }),
        ),
      explainJob: ({ request }: { request: ExplainJobRequest }, done: sendUnaryData<object>) => {
        const allowed = request.spec?.networkMode !== NetworkMode.HOST;
        const decisions = [{ rule: 'networks', allowed, explanation: `key ${request.keyId}` }];
        done(null, create(ExplainJobResponseSchema, { allowed, decisions }));
      },
      explainSession,
      reload: () => undefined,
    });
    await promisify(server.bindAsync.bind(server))(
      `unix:${join(folder, 'agent.sock')}`,
      ServerCredentials.createInsecure(),
    );
    try {
      const status = (await runCli(['status', '--data-dir', folder, '--json'])).json() as Record<string, unknown>;
      assert.deepEqual([status['agent'], status['link_state']], ['web-1', 'open']);
      assert.match((await runCli(['status', '--socket', join(folder, 'agent.sock')])).out, /link +open/);
      const commands = await runCli(['status', '--data-dir', folder, '--commands', '--json']);
      assert.deepEqual(
        (commands.json() as { id: string }[]).map((one) => one.id),
        ['c1'],
      );
      const explain = ['job', 'explain', '--data-dir', folder, '--key-id', 'ops'];
      const allowed = await runCli([...explain, '--', 'true']);
      assert.deepEqual([allowed.code, allowed.out], [0, 'allow  networks: key ops\n']);
      const denied = await runCli([...explain, '--network', 'host', '--json', '--', 'true']);
      assert.deepEqual([denied.code, (denied.json() as { allowed: boolean }).allowed], [4, false]);
      await explainsSessions(folder);
    } finally {
      server.forceShutdown();
    }
    const gone = await runCli(['status', '--data-dir', folder]);
    assert.equal(gone.code, 5);
    assert.match(gone.err, /agent\.sock/);
  });
});

test('doctor: an engine, a controller and a folder that work are ok; a mend for what does not', async () => {
  await using fleet = await startFleet({ agents: { listAgents: () => ({}) } });
  await withFolder(async (folder) => {
    const engine = createServer((request, response) => {
      const version = { Version: '28.0', ApiVersion: '1.48', Components: [{ Name: 'Engine' }] };
      response.end(request.url === '/_ping' ? 'OK' : JSON.stringify(version));
    });
    const socket = join(folder, 'docker.sock');
    engine.listen(socket);
    await once(engine, 'listening');
    const argv = [
      'doctor',
      '--json',
      '--context',
      fleet.contextPath,
      '--data-dir',
      folder,
      '--docker-host',
      `unix://${socket}`,
    ];
    try {
      const results = (await runCli(argv)).json() as { name: string; status: string; detail: string; mend: string }[];
      const byName = new Map(results.map((one) => [one.name, one]));
      for (const name of [
        'node',
        'engine',
        'data folder',
        'disk',
        'controller: tcp',
        'controller: certificate',
        'controller: token',
      ]) {
        assert.equal(byName.get(name)?.status, 'ok', `${name}: ${byName.get(name)?.detail}`);
      }
      assert.match(byName.get('engine')!.detail, /Docker 28\.0/);
      assert.match(byName.get('controller: clock')!.detail, /differ by/);
      assert.notEqual(byName.get('agent')!.mend, '');
    } finally {
      engine.close();
    }
    const without = await runCli(argv);
    assert.equal(without.code, 1);
    const text = await runCli(argv.filter((word) => word !== '--json'));
    assert.match(text.out, /fail {2}engine: .*\n +install and start/);
  });
});

test('single checks of doctor', async () => {
  await withFolder(async (folder) => {
    assert.equal(checkNode('20.1.0').status, 'fail');
    assert.equal(checkUser(1000).status, 'warn');
    assert.equal((await checkCgroups(folder)).status, 'warn');
    await writeFile(join(folder, 'cgroup.controllers'), 'cpu memory pids\n');
    assert.equal((await checkCgroups(folder)).status, 'ok');
    assert.equal((await checkBusybox(join(folder, 'none'))).status, 'warn');
    assert.match((await checkBusybox(process.execPath)).detail, /shared libraries/);
    const loose = join(folder, 'loose');
    await mkdir(loose);
    await chmod(loose, 0o755);
    assert.match((await checkDataFolder(loose)).mend, /chmod 700/);
    assert.equal((await checkDataFolder(join(folder, 'cgroup.controllers'))).status, 'fail');
    assert.equal((await checkDataFolder(join(folder, 'new', 'deep'))).status, 'ok');
  });
});

async function explainsSessions(folder: string): Promise<void> {
  const session = ['session', 'explain', '--data-dir', folder, '--key-id', 'ops', '--image', 'desktop:1'];
  const started = await runCli(session);
  assert.deepEqual([started.code, started.out], [0, 'allow  sessions.images.x.networks: key ops\n']);
  const refused = await runCli([...session, '--network', 'shared', '--json']);
  const answer = refused.json() as { allowed: boolean; effective: { image: string } };
  assert.deepEqual([refused.code, answer.allowed, answer.effective.image], [4, false, 'desktop:1']);
}

function explainSession({ request }: { request: ExplainSessionRequest }, done: sendUnaryData<object>): void {
  const allowed = request.spec?.network?.mode !== SessionNetworkMode.SHARED;
  const decisions = [{ rule: 'sessions.images.x.networks', allowed, explanation: `key ${request.keyId}` }];
  const effective = request.spec === undefined ? {} : { effective: request.spec };
  done(null, create(ExplainSessionResponseSchema, { allowed, decisions, ...effective }));
}
