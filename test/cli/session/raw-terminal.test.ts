// A real pseudo-terminal, which Node can't make: Python holds it, and says how it is.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { it } from 'node:test';
import { promisify } from 'node:util';

const moduleAt = (path: string) => JSON.stringify(new URL(path, import.meta.url));

/** Takes the terminal, and never ends by itself. */
const TAKES = `
import { InterruptGuard } from ${moduleAt('../../../src/cli/interrupt.ts')};
import { rawTerminal } from ${moduleAt('../../../src/cli/session/raw-terminal.ts')};
const guard = new InterruptGuard();
guard.signal.addEventListener('abort', () => process.stdout.write('told\\n'));
rawTerminal({ stdin: process.stdin });
setInterval(() => {}, 1000);
process.stdout.write('raw\\n');
`;

const HOLDS = `
import os, pty, signal, subprocess, sys, termios
master, slave = pty.openpty()
cooked = lambda: bool(termios.tcgetattr(slave)[3] & termios.ICANON)
child = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=subprocess.PIPE)
states = [child.stdout.readline().decode().strip(), cooked()]
child.send_signal(signal.SIGTERM)
states.append(child.stdout.readline().decode().strip())
child.send_signal(signal.SIGTERM)
print(states, child.wait(60), cooked())
`;

it('is given back also by the end that a second signal makes at once', async () => {
  const child = [process.execPath, '--input-type=module', '--eval', TAKES];
  const { stdout } = await promisify(execFile)('python3', ['-c', HOLDS, ...child], { timeout: 120_000 });
  assert.equal(stdout.trim(), "['raw', False, 'told'] 143 True");
});
