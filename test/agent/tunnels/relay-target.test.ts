import assert from 'node:assert/strict';
import { it } from 'node:test';
import { relayTarget } from '../../../src/agent/tunnels/relay-target.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import type { SessionTerminal, SessionVisit, TerminalPiece } from '../../../src/core/session-access.ts';
import { TunnelEnd } from '../../../src/core/tunnel/tunnel-end.ts';

/** A relay whose program found its tool and ended at once: it takes no input, and `end` says when that is heard of. */
function endedProgram() {
  const end = Promise.withResolvers<void>();
  const said = (text: string): TerminalPiece => ({ stream: 'stderr', data: Buffer.from(text) });
  async function* output() {
    yield said('+\n');
    await end.promise;
    yield said('nc: refused\n');
  }
  const terminal: SessionTerminal = {
    output: output(),
    write: async () => {
      throw new LonglineError('wrong_state', 'input is closed');
    },
    end: async () => {
      throw new LonglineError('wrong_state', 'input is closed');
    },
    resize: async () => undefined,
    signal: async () => undefined,
    exitCode: async () => 1,
    destroy: () => undefined,
  };
  const visit: SessionVisit = {
    endpoint: { containerId: 'c', addresses: [], pid: undefined, ports: [7] },
    woken: false,
    touch: () => undefined,
    execute: async () => terminal,
    attachMain: async () => terminal,
    [Symbol.dispose]: () => undefined,
  };
  return { visit, end: end.resolve };
}

for (const [what, speak] of [
  ['input that fails', (tunnel: TunnelEnd) => tunnel.accept({ kind: 'data', data: Buffer.from('hello') })],
  ['an end of the input that fails', (tunnel: TunnelEnd) => tunnel.accept({ kind: 'half_close' })],
] as const) {
  it(`says why the program ended, though ${what} is heard of first`, async () => {
    const program = endedProgram();
    await using target = await relayTarget(program.visit, 7, ['1.2.3.4:7 timed out'], AbortSignal.timeout(60_000));
    const tunnel = new TunnelEnd(async () => undefined);
    const running = target.run(tunnel);
    running.catch(() => undefined);
    speak(tunnel);
    // Many turns: whatever the failed input could bring about has happened when the program's end is heard of.
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    assert.equal(tunnel.failed.aborted, false);
    program.end();
    await assert.rejects(running, {
      reason: 'unavailable',
      message: /port 7 of the session can't be reached: 1\.2\.3\.4:7 timed out; .*nc: refused/,
    });
  });
}
