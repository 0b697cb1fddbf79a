// The agent under a service manager: what it tells, that a hang of its event loop or of its link ends it, and that nothing else does.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type Fleet, startFleet } from '../fixtures/fleet.ts';
import { Supervised } from '../fixtures/supervised.ts';

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');
const WATCHDOG_MS = 6_000;
const ABORTED = -6;

let fleet: Fleet;
before(async () => {
  fleet = await startFleet();
});
after(async () => await fleet[Symbol.asyncDispose]());

function supervise(id: string, args: readonly string[], node: readonly string[] = []): Supervised {
  const folder = join(fleet.folder, `agent-${id}`);
  const engine = `unix://${join(fleet.folder, 'no-engine.sock')}`;
  const fixed = ['agent', '--data-dir', folder, '--agent-id', id, '--docker-host', engine];
  const command = [process.execPath, ...node, '--', MAIN, ...fixed, ...args];
  return new Supervised(join(fleet.folder, `${id}.notify`), WATCHDOG_MS, command, fleet.env);
}

const isReady = (one: Supervised) => (one.told.includes('READY=1') ? true : undefined);
const hasBeats = (one: Supervised, beats: number) => () => (one.beats >= beats ? true : undefined);

/** Runs an expression in a process that was started with --inspect. */
async function evaluate(stderr: string, expression: string): Promise<void> {
  const url = /Debugger listening on (ws:\/\/\S+)/.exec(stderr)?.[1];
  assert.ok(url !== undefined, stderr);
  const socket = new WebSocket(url);
  const opened = Promise.withResolvers<void>();
  socket.addEventListener('open', () => opened.resolve(), { once: true });
  socket.addEventListener('error', () => opened.reject(new Error('no debugger answers')), { once: true });
  await opened.promise;
  socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression } }));
}

describe('an agent under a service manager', () => {
  it('tells that it is ready, idle, reloads, stops; and lives on while the controller is away and the host is slow', async () => {
    await using agent = supervise('sd-1', ['--controller', fleet.url, '--token', await fleet.token()]);
    await agent.until('ready', () => isReady(agent));
    await agent.until('idle beats', hasBeats(agent, 4));
    assert.ok(
      agent.told.some((line) => line.startsWith('STATUS=link open')),
      agent.told.join(),
    );

    agent.order('kill SIGHUP');
    await agent.until('a reload', () => (agent.told.includes('RELOADING=1') ? true : undefined));
    await agent.until('its end', () => {
      const told = agent.told;
      return told.lastIndexOf('READY=1') > told.indexOf('RELOADING=1') ? true : undefined;
    });
    const stamped = agent.events.find((one) => one.event === 'told' && one.lines.includes('RELOADING=1'));
    assert.ok(stamped?.event === 'told' && stamped.lines.some((line) => /^MONOTONIC_USEC=\d+$/.test(line)));

    await fleet.controller.stop('SIGKILL');
    await agent.until('status without link', () => {
      return agent.told.some((line) => /^STATUS=link (backing_off|connecting)/.test(line)) ? true : undefined;
    });
    await agent.until('beats without a controller', hasBeats(agent, agent.beats + 4));
    await fleet.startController();

    agent.order('slow 4');
    await agent.until('beats on a slow host', hasBeats(agent, agent.beats + 5));

    agent.order('kill SIGTERM');
    assert.deepEqual(await agent.ended(), { event: 'ended', code: 0, fired: false });
    assert.ok(agent.told.includes('STOPPING=1'));
  });

  it('is ended by the watchdog when its event loop is blocked', async () => {
    const args = ['--controller', fleet.url, '--token', await fleet.token()];
    await using agent = supervise('sd-2', args, ['--inspect=127.0.0.1:0']);
    await agent.until('ready', () => isReady(agent));
    await evaluate(agent.stderr, 'for (;;);');
    assert.deepEqual(await agent.ended(), { event: 'ended', code: ABORTED, fired: true });
  });

  it('is ended by the watchdog when its link is stuck, though the event loop turns', async () => {
    // Each try to connect reads the file of CAs, and nobody ever writes to this one.
    const pipe = join(fleet.folder, 'ca.pem');
    execFileSync('mkfifo', [pipe]);
    const args = ['--controller', fleet.url, '--api-key', 'a'.repeat(64), '--ca-file', pipe];
    await using agent = supervise('sd-3', args);
    await agent.until('ready', () => isReady(agent));
    assert.deepEqual(await agent.ended(), { event: 'ended', code: ABORTED, fired: true });
    assert.ok(agent.told.includes('STATUS=stuck: link: a try to connect'), agent.told.join());
    assert.match(agent.stderr, /the watchdog hears nothing any more/);
  });
});
