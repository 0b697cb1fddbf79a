// The screen of a real VNC server in a real browser: page, ticket, WebSocket, tunnel, noVNC.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { after, before, describe, it } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { browserMissing, loadPage, startBrowser } from '../../fixtures/browser.ts';
import { SESSION, TunnelFleet } from '../../fixtures/tunnel-fleet.ts';
import { VNC_SCREEN, vncCommand, vncMissing } from '../../fixtures/vnc-image.ts';
import { until } from '../../link/scratch.ts';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** Xtigervnc of this host. Resolves once it greets. */
async function startVnc(port: number): Promise<ChildProcess> {
  const argv = vncCommand(10_000 + (port % 10_000), port);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...argv, '-interface', '127.0.0.1'], { stdio: 'ignore' });
  const greeted = async () => {
    const socket = connect({ port, host: '127.0.0.1' });
    try {
      const [data] = await once(socket, 'data');
      return String(data).startsWith('RFB ');
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  };
  const endsAt = performance.now() + 20_000;
  while (!(await greeted())) {
    if (child.exitCode !== null || performance.now() > endsAt)
      throw new Error(`Xtigervnc ended with ${child.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return child;
}

/** Size of the canvas that noVNC draws on, and how many of its pixels are plain white. */
async function look(page: Page): Promise<{ width: number; height: number; white: number }> {
  return await page.evaluate(() => {
    // In the browser: types of the DOM are not ours to know.
    const canvas = (
      globalThis as unknown as { document: { querySelector(selector: string): unknown } }
    ).document.querySelector('#screen canvas') as {
      width: number;
      height: number;
      getContext(kind: string): unknown;
    } | null;
    if (canvas === null) return { width: 0, height: 0, white: 0 };
    const { width, height } = canvas;
    const context = canvas.getContext('2d') as {
      getImageData(x: number, y: number, width: number, height: number): { data: Uint8ClampedArray };
    };
    const { data } = context.getImageData(0, 0, width, height);
    let white = 0;
    for (let at = 0; at < data.length; at += 4) {
      if (data[at] === 255 && data[at + 1] === 255 && data[at + 2] === 255 && data[at + 3] === 255) white += 1;
    }
    return { width, height, white };
  });
}

const missing = vncMissing() ?? browserMissing();

describe('the page of a session', { skip: missing ?? false }, () => {
  let fleet: TunnelFleet;
  let vnc: ChildProcess;
  let browser: Browser;
  let port: number;
  before(async () => {
    port = await freePort();
    [vnc, fleet, browser] = await Promise.all([startVnc(port), TunnelFleet.start({ ports: [port] }), startBrowser()]);
  });
  after(async () => {
    await browser?.close();
    await fleet?.[Symbol.asyncDispose]();
    vnc?.kill('SIGKILL');
  });

  it('shows the screen, takes the ticket out of the address, and says when the connection ended', async () => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1000, height: 600 } });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on(
      'console',
      (message) => message.type() === 'error' && complaints.push(message.text() + message.location().url),
    );
    page.on('pageerror', (error) => complaints.push(String(error)));
    const address = async () => {
      complaints.length = 0;
      const { viewPath } = await fleet.sessions.createTunnelTicket({ sessionId: SESSION, port });
      return `${fleet.context.url}${viewPath}`;
    };
    await loadPage(page, address, 'body[data-state=connected]');
    const { width, height } = VNC_SCREEN;
    let seen = await look(page);
    for (const endsAt = performance.now() + 60_000; seen.white < width * height && performance.now() < endsAt; ) {
      seen = await look(page);
    }
    const shot = process.env['LONGLINE_TEST_SCREENSHOT'];
    if (shot !== undefined) await page.screenshot({ path: shot });
    assert.deepEqual(seen, { width, height, white: width * height });
    assert.equal(page.url(), `${fleet.context.url}/sessions/${SESSION}/view`);
    assert.deepEqual(
      complaints.filter((text) => !text.includes('ERR_NETWORK_CHANGED')),
      [],
    );
    vnc.kill('SIGKILL');
    await page.getByText(/The connection ended: .*longline session view desk/).waitFor({ timeout: 60_000 });
    await until('the tunnel is over', () => fleet.session.visits.size === 0);
    const plain = page.url();
    await loadPage(page, async () => plain, 'text=This address has no ticket');
    await context.close();
  });
});
