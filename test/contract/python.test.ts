// Another language, from the Protobuf contract alone: a Python controller serves a real agent, a Python client lists
// the agents of a real controller.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { RunningCommand } from '../fixtures/command.ts';
import { dockerMissing, sharedDocker, type TestEngine } from '../fixtures/engines.ts';
import { startFleet } from '../fixtures/fleet.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const PYTHON = '/usr/bin/python3';

interface ControllerEvent {
  readonly event: string;
  readonly url?: string;
  readonly [fact: string]: unknown;
}

describe('Python', { skip: pythonMissing() ?? dockerMissing() ?? testImageMissing() ?? false }, () => {
  let folder: string;
  let stubs: string;
  let engine: TestEngine;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'll-python-'));
    stubs = join(folder, 'stubs');
    await mkdir(stubs);
    await generateStubs(stubs);
    engine = await sharedDocker();
    await loadTestImages(engine);
  });
  after(async () => {
    await engine?.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  test('a controller in Python serves the agent, runs a signed job and gets its output', async () => {
    const apiKey = randomBytes(32).toString('hex');
    const secret = randomBytes(32);
    const trust = join(folder, 'trust.toml');
    await writeFile(
      trust,
      `[[keys]]\nkey_id = "python"\nalgorithm = "hmac-sha256"\nsecret = "${secret.toString('base64')}"\n` +
        'controllers = ["python-controller"]\ncapabilities = ["jobs", "network"]\n',
    );
    await chmod(trust, 0o600);
    const program = join(ROOT, 'deploy/examples/python/controller.py');
    const args = ['--stubs', stubs, '--api-key', apiKey, '--key-id', 'python', '--secret', secret.toString('hex')];
    const job = ['--image', TEST_IMAGE, '--', 'sh', '-c', 'echo from python; exit 3'];
    const controller = spawn(PYTHON, [program, ...args, ...job], { stdio: ['ignore', 'pipe', 'pipe'] });
    const stderr: string[] = [];
    controller.stderr.on('data', (data: Buffer) => stderr.push(data.toString()));
    const ended = once(controller, 'close');
    let agent: RunningCommand | undefined;
    try {
      const events: ControllerEvent[] = [];
      for await (const line of createInterface({ input: controller.stdout })) {
        const event = JSON.parse(line) as ControllerEvent;
        events.push(event);
        if (event.event === 'listening') agent = startAgent(event.url!, apiKey, trust);
      }
      const seen = `${JSON.stringify(events)}\n${stderr.join('')}\n${agent?.stderr}`;
      await agent?.stop();
      const [code] = (await ended) as [number];
      assert.equal(code, 0, seen);
      const kinds = new Set(events.map((event) => event.event));
      for (const kind of ['hello', 'state', 'received', 'output', 'result', 'closed']) assert.ok(kinds.has(kind), seen);
      const state = events.findLast((event) => event.event === 'state')!;
      assert.equal(state['generation'], 1, seen);
      // Whether this host can have networks is not the question: it was taken as signed, or refused for just that.
      if (state['error'] !== null) assert.equal(state['error'], 'ERROR_REASON_UNSUPPORTED', seen);
      else assert.equal(state['digest'], createHash('sha256').digest('hex').slice(0, 32));
      const output = events.filter((event) => event.event === 'output').map((event) => event['data']);
      assert.equal(output.join(''), 'from python\n');
      const result = events.find((event) => event.event === 'result')!;
      assert.equal(result['exit_code'], 3);
      assert.equal(events.find((event) => event.event === 'closed')!['problem'], null);
    } finally {
      controller.kill('SIGKILL');
      await agent?.[Symbol.asyncDispose]();
    }
  });

  test('a client in Python lists the agents of a controller', async () => {
    await using fleet = await startFleet({ dockerHost: engine.host });
    await fleet.enrolled('python-sees-me');
    const program = join(ROOT, 'deploy/examples/python/list_agents.py');
    const { stdout } = await run(PYTHON, [program, '--stubs', stubs, '--context', fleet.context]);
    assert.deepEqual(JSON.parse(stdout), { id: 'python-sees-me', state: 'AGENT_STATE_ONLINE' });
  });

  function startAgent(url: string, apiKey: string, trust: string): RunningCommand {
    const env = { PATH: process.env['PATH'], HOME: folder, LONGLINE_API_KEY: apiKey, LONGLINE_HTTP_PORT: '0' };
    const args = ['agent', '--controller', url, '--agent-id', 'from-python', '--data-dir', join(folder, 'agent')];
    return new RunningCommand([...args, '--docker-host', engine.host, '--trust', trust], env);
  }
});

function pythonMissing(): string | undefined {
  try {
    execFileSync(PYTHON, ['-c', 'import grpc, google.protobuf'], { stdio: 'ignore' });
    execFileSync('sh', ['-c', 'command -v protoc && command -v grpc_python_plugin'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'needs python3-grpcio, python3-protobuf, protobuf-compiler and protobuf-compiler-grpc';
  }
}

async function generateStubs(into: string): Promise<void> {
  const image = join(into, 'image.binpb');
  await run(join(ROOT, 'node_modules/.bin/buf'), ['build', '-o', image], { cwd: ROOT });
  const { stdout } = await run('sh', ['-c', 'command -v grpc_python_plugin']);
  const files = await readdir(join(ROOT, 'proto/longline'), { recursive: true });
  const protos = files.filter((file) => file.endsWith('.proto')).map((file) => join('longline', file));
  await run('protoc', [
    `--descriptor_set_in=${image}`,
    `--python_out=${into}`,
    `--grpc_python_out=${into}`,
    `--plugin=protoc-gen-grpc_python=${stdout.trim()}`,
    ...protos,
  ]);
}
