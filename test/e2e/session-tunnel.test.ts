// A real VNC server in a container, reached through the link alone: by a socket, by commands, in a browser; and what
// becomes of a tunnel when the agent is killed.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { browserMissing, loadPage, startBrowser } from '../fixtures/browser.ts';
import { RunningCommand } from '../fixtures/command.ts';
import { dockerMissing, sharedDocker, type TestEngine } from '../fixtures/engines.ts';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { rfbHandshake } from '../fixtures/rfb.ts';
import { loadVncImage, VNC_IMAGE, VNC_PORT, VNC_SCREEN, vncMissing } from '../fixtures/vnc-image.ts';

const missing = dockerMissing() ?? vncMissing() ?? browserMissing();

describe('a session reached through tunnels', { skip: missing ?? false }, () => {
  let engine: TestEngine;
  let fleet: Fleet;
  let agent: TestAgent;

  before(async () => {
    engine = await sharedDocker();
    await loadVncImage(engine);
    fleet = await startFleet({ dockerHost: engine.host });
    agent = await fleet.enrolled('host-1');
    const port = ['--port', `vnc:${VNC_PORT}/vnc`];
    const place = ['--agent', 'host-1', '--image', VNC_IMAGE, '--id', 'desk', '--pull', 'never'];
    const outcome = await fleet.longline('session', 'start', ...place, ...port);
    assert.equal(outcome.code, 0, `${outcome.stderr}\n${agent.command.stderr}`);
  });
  after(async () => {
    await fleet?.longline('session', 'stop', 'desk').catch(() => undefined);
    await fleet?.[Symbol.asyncDispose]();
    await engine?.dispose();
  });

  const tunnel = (...args: readonly string[]) =>
    new RunningCommand(['session', 'tunnel', 'desk', String(VNC_PORT), ...args], fleet.env);

  it('gives an RFB handshake over a local port', async () => {
    await using command = tunnel();
    const address = await command.until('the address', () => /^\S+(?=\n)/.exec(command.stdout)?.[0]);
    const socket = connect({ host: '127.0.0.1', port: Number(address.split(':')[1]) });
    const screen = await rfbHandshake(socket, socket);
    socket.destroy();
    assert.deepEqual([screen.width, screen.height], [VNC_SCREEN.width, VNC_SCREEN.height], command.stderr);
  });

  it('shows the screen in a browser', async () => {
    const browser = await startBrowser();
    try {
      const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
      const address = async () =>
        (await fleet.longline('session', 'view', 'desk', '--json')).json<{ url: string }>().url;
      await loadPage(page, address, 'body[data-state=connected]');
      const { width, height } = VNC_SCREEN;
      const isShown = `(() => {
        const canvas = document.querySelector('#screen canvas');
        if (canvas === null || canvas.width !== ${width} || canvas.height !== ${height}) return false;
        return canvas.getContext('2d').getImageData(0, 0, ${width}, ${height}).data.every((value) => value === 255);
      })()`;
      // Asked anew each time: the page's policy lets nothing in it evaluate text, as a wait inside it would.
      await fleet.until("the whole canvas is the server's own white", async () => {
        if (await page.evaluate<boolean>(isShown)) return true;
        await delay(100);
        return undefined;
      });
      const shot = process.env['LONGLINE_TEST_SCREENSHOT'];
      if (shot !== undefined) await page.screenshot({ path: shot });
    } finally {
      await browser.close();
    }
  });

  it('runs commands with their exit codes, and refuses ports that are not offered', async () => {
    const outcome = await fleet.longline('session', 'exec', 'desk', '--', 'sh', '-c', 'echo out; echo err >&2; exit 5');
    assert.deepEqual([outcome.code, outcome.stdout.toString(), outcome.stderr], [5, 'out\n', 'err\n']);
    const refused = await fleet.longline('session', 'tunnel', 'desk', '22', '--stdio');
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /does not offer port 22/);
  });

  it('wakes a session that was paused', async () => {
    const asleep = await fleet.longline('session', 'hibernate', 'desk', '--tier', 'pause');
    assert.equal(asleep.code, 0, asleep.stderr);
    await using command = tunnel('--stdio');
    const { stdin, stdout } = command.process;
    const screen = await rfbHandshake(stdout!, stdin!);
    assert.equal(screen.width, VNC_SCREEN.width);
  });

  it('ends a tunnel with the reason when the agent is killed, and opens one to what went on', async () => {
    await using command = tunnel('--stdio');
    await command.until('the greeting', () => (command.stdout.startsWith('RFB ') ? true : undefined));
    await agent.kill9();
    const { code, stderr } = await command.outcome();
    assert.equal(code, 5);
    assert.match(stderr, /the connection of agent host-1 was lost/);
    agent.start();
    await agent.online();
    await using again = tunnel('--stdio');
    await again.until('the greeting', () => (again.stdout.startsWith('RFB ') ? true : undefined));
  });
});
