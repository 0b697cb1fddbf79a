import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { tellServiceManager } from '../../../src/platform/process/service-manager.ts';

const skip = process.platform === 'linux' ? false : 'systemd is Linux only';

/** Receives one datagram as systemd would, since Node has none on unix sockets. */
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace("@", "\\0", 1))
s.settimeout(60)
print("bound", flush=True)
print(s.recv(4096).decode().replace("\\n", " "), flush=True)
`;

describe('word to the service manager', { skip }, () => {
  it('is nothing where nobody asked, and an error where nobody listens', () => {
    tellServiceManager(undefined, 'READY=1');
    tellServiceManager('', 'READY=1');
    assert.throws(() => tellServiceManager('/nowhere/notify', 'READY=1'), { reason: 'unavailable' });
    assert.throws(() => tellServiceManager(`/${'x'.repeat(120)}`, 'READY=1'), { reason: 'invalid' });
  });

  for (const kind of ['a path', 'an abstract name']) {
    it(`arrives at ${kind}`, async (t) => {
      const folder = await mkdtemp(join(tmpdir(), 'longline-sd-'));
      t.after(() => rm(folder, { recursive: true, force: true }));
      const address = kind === 'a path' ? join(folder, 'notify') : `@${folder}`;
      const receiver = spawn('python3', ['-c', RECEIVER, address], { stdio: ['ignore', 'pipe', 'inherit'] });
      const ended = once(receiver, 'close');
      t.after(() => receiver.kill());
      const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
      assert.equal((await lines.next()).value, 'bound');
      tellServiceManager(address, 'STOPPING=1');
      assert.match(String((await lines.next()).value), /^STOPPING=1 MONOTONIC_USEC=\d+/);
      await ended;
    });
  }
});
