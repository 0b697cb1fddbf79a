// Signals to commands in a container go by process numbers of the engine, which may be another's here.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import type { DaemonWatch } from '../../../src/platform/docker/daemon-watch.ts';
import type { DockerSessionContainers } from '../../../src/platform/docker/session-containers.ts';
import { DockerSessionProcesses } from '../../../src/platform/docker/session-processes.ts';
import { startScriptedEngine } from '../../fixtures/scripted-engine.ts';

const CONTAINER = 'c'.repeat(64);
const watch = { life: async () => 1, confirm: async () => undefined } as unknown as DaemonWatch;
const noContainers = {} as DockerSessionContainers;
const command = { argv: ['sleep', '600'], env: {}, terminal: false, user: '', workingDir: '', size: undefined };

test('no process is signalled that is not in the container, whatever number the engine gives', async () => {
  const bystander = spawn(process.execPath, ['-e', 'process.stdin.resume()'], { stdio: ['pipe', 'ignore', 'inherit'] });
  try {
    await once(bystander, 'spawn');
    // At first the engine doesn't know the process yet.
    const pids = [0, 0, bystander.pid];
    await using engine = await startScriptedEngine((request, response) => {
      const answer = request.url!.includes('/json') ? { Running: true, Pid: pids.shift() } : { Id: 'e1' };
      response.writeHead(request.method === 'POST' ? 201 : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer));
    });
    const processes = new DockerSessionProcesses(engine.client, watch, noContainers, true);
    const terminal = await processes.execute(CONTAINER, command);
    await assert.rejects(terminal.signal('SIGKILL'), {
      reason: 'unsupported',
      message: new RegExp(`can't see the process ${bystander.pid},`),
    });
    terminal.destroy();
    bystander.stdin!.end();
    assert.deepEqual(await once(bystander, 'exit'), [0, null]);
  } finally {
    bystander.kill('SIGKILL');
  }
});
