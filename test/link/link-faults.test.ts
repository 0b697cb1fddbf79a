// The link through a proxy that misbehaves: whatever it does, commands run once and output arrives whole.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { LINK_LIMITS, type LinkLimits } from '../../src/link/link-limits.ts';
import { type Fault, FaultProxy } from '../fixtures/fault-proxy.ts';
import { AgentSide } from './agent-side.ts';
import { TestController } from './controller-double.ts';
import { scratchFolder, until } from './scratch.ts';

/** Three of these without a word end a connection: short where that is waited for, long where it would disturb. */
const QUICK_HEARTBEAT_MS = 200;
const CALM_HEARTBEAT_MS = 15_000;
const open = (agent: AgentSide) => agent.link.status().state.kind === 'open';

interface Scene extends AsyncDisposable {
  readonly controller: TestController;
  readonly proxy: FaultProxy;
  readonly agent: AgentSide;
}

async function scene(limits: Partial<LinkLimits> = {}, heartbeatMs = QUICK_HEARTBEAT_MS): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const folder = stack.use(await scratchFolder());
  const controller = stack.use(await TestController.start());
  controller.behaviour.heartbeatMs = heartbeatMs;
  const proxy = stack.use(await FaultProxy.start(controller.port));
  const agent = stack.use(
    await AgentSide.open(folder.path, () => proxy.port, { limits: { bringUpMs: 1000, ...limits } }),
  );
  // Writes numbered lines to both streams, with turns of the event loop in between.
  agent.executor.run = async function* (command) {
    const log = await agent.link.logs.open(command.id);
    for (let index = 0; index < 300; index++) {
      const data = Buffer.from(`${command.id} line ${index} ${'x'.repeat(index * 10)}\n`);
      await log.append({ stream: index % 3 === 0 ? 'stderr' : 'stdout', data }, Date.now());
      if (index % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await log.close();
    yield { kind: 'result', outcome: 'succeeded', detail: new Uint8Array() };
  };
  await agent.start();
  await until('the link is open', () => open(agent));
  return { controller, proxy, agent, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

function expected(id: string, stream: 'stdout' | 'stderr'): string {
  const hash = createHash('sha256');
  for (let index = 0; index < 300; index++) {
    if ((index % 3 === 0) === (stream === 'stderr')) hash.update(`${id} line ${index} ${'x'.repeat(index * 10)}\n`);
  }
  return hash.digest('hex');
}

/** Every command ran once, and its result and output are whole at the controller. */
async function delivered({ controller, agent }: Scene, ids: readonly string[]): Promise<void> {
  await until('all results and logs came', () =>
    ids.every((id) => controller.results.has(id) && controller.logs.get(id)?.close !== undefined),
  );
  for (const id of ids) {
    const log = controller.logs.get(id)!;
    assert.deepEqual(log.faults, []);
    for (const stream of ['stdout', 'stderr'] as const) {
      assert.equal(createHash('sha256').update(log.bytes(stream)).digest('hex'), expected(id, stream), stream);
    }
    assert.equal(agent.executor.starts.filter((start) => start.id === id).length, 1, 'it ran once');
  }
  await until('nothing is left', () => agent.link.status().pendingReplies + agent.link.status().spoolLogs === 0);
}

/** Sends commands again on every connection until they are answered, as a controller does. */
function insist(controller: TestController, count: number): string[] {
  const commands = Array.from({ length: count }, () => controller.command());
  const sent = new Set<unknown>();
  const send = () => {
    const connection = controller.open.at(-1);
    if (connection === undefined || sent.has(connection)) return;
    sent.add(connection);
    for (const value of commands) if (!controller.results.has(value.id)) controller.send({ case: 'command', value });
  };
  const timer = setInterval(() => {
    send();
    if (commands.every(({ id }) => controller.results.has(id))) clearInterval(timer);
  }, 5);
  timer.unref();
  send();
  return commands.map(({ id }) => id);
}

describe('link through a faulty network', () => {
  it('delivers everything once when connections are cut after any number of bytes', async () => {
    await using it = await scene();
    const ids = insist(it.controller, 5);
    for (const bytes of [1, 9, 100, 1000, 5000, 20_000, 65_537, 150_001]) {
      const before = it.controller.connections.length;
      it.proxy.inject({ kind: 'cut_after', bytes });
      await until(`it is connected again after a cut at ${bytes}`, () => {
        if (it.agent.link.status().spoolLogs === 0 && it.controller.connections.length === before) it.proxy.reset();
        return it.controller.connections.length > before && open(it.agent);
      });
    }
    await delivered(it, ids);
  });

  for (const fault of [
    { kind: 'stall' },
    { kind: 'stall', direction: 'to_client' },
    { kind: 'half_open' },
  ] satisfies Fault[]) {
    it(`notices a connection that is ${JSON.stringify(fault)} and makes a new one`, async () => {
      await using it = await scene();
      const { failures, connects } = it.agent.link.status();
      const ids = insist(it.controller, 3);
      it.proxy.inject(fault);
      await until('it gave the connection up', () => it.agent.link.status().failures > failures);
      it.proxy.inject({ kind: 'pass' });
      await delivered(it, ids);
      assert.ok(it.agent.link.status().connects > connects);
    });
  }

  it('leaves a connection on which a write is stuck, without waiting for the keepalive', async () => {
    const channel = { ...LINK_LIMITS.channel, keepaliveMs: 3_600_000 };
    await using it = await scene({ channel });
    const ids = insist(it.controller, 3);
    // More is to come than fits into the windows, so that a write is under way for good.
    await until('output flows', () => ids.some((id) => (it.controller.logs.get(id)?.bytes('stdout').length ?? 0) > 0));
    const { failures } = it.agent.link.status();
    it.proxy.inject({ kind: 'half_open' });
    await until('it gave the connection up', () => it.agent.link.status().failures > failures);
    it.proxy.inject({ kind: 'pass' });
    await delivered(it, ids);
  });

  for (const kind of ['refuse', 'swallow'] as const) {
    it(`goes on by itself after new connections were met with "${kind}"`, async () => {
      await using it = await scene();
      const ids = insist(it.controller, 3);
      const failures = it.agent.link.status().failures;
      it.proxy.inject({ kind });
      it.proxy.reset();
      await until('some attempts failed', () => it.agent.link.status().failures >= failures + 3);
      it.proxy.inject({ kind: 'pass' });
      await delivered(it, ids);
    });
  }

  it('delivers over a slow line', async () => {
    await using it = await scene();
    it.proxy.inject({ kind: 'delay', delayMs: 20 });
    await delivered(it, insist(it.controller, 2));
    await until('a round trip shows it', () => (it.agent.link.status().roundTripMs ?? 0) >= 20);
  });

  it('sends a log anew when the controller finds its end wrong, and reports it when that does not help', async () => {
    await using it = await scene({}, CALM_HEARTBEAT_MS);
    it.controller.behaviour.rejectLogEnds = 1;
    await delivered(it, insist(it.controller, 1));
    it.controller.behaviour.rejectLogEnds = 10;
    const [id] = insist(it.controller, 1);
    await until('it was reported', () => it.controller.received('event').some(({ type }) => type === 'log.damaged'));
    assert.equal(it.controller.received('event')[0]?.attributes['log_id'], id);
    await until('nothing is left', () => it.agent.link.status().spoolLogs === 0);
  });

  it('keeps output within its window while the controller acknowledges nothing, and bounded on disk while it is away', async () => {
    const limits = { logWindowBytes: 200_000, spoolLogBytes: 1_000_000, segmentBytes: 100_000 };
    await using it = await scene(limits, CALM_HEARTBEAT_MS);
    it.controller.behaviour.acknowledgeLogs = false;
    const log = await it.agent.link.logs.open('big');
    for (let index = 0; index < 50; index++) {
      await log.append({ stream: 'stdout', data: Buffer.alloc(10_000, index) }, 1);
    }
    const stored = () => Number(it.controller.logs.get('big')?.offsets.get('stdout') ?? 0n);
    await until('the window is used', () => stored() >= 200_000);
    assert.ok(stored() <= 270_000, `${stored()} bytes were sent without an acknowledgement`);
    it.controller.behaviour.acknowledgeLogs = true;
    it.proxy.inject({ kind: 'refuse' });
    it.proxy.reset();
    for (let index = 0; index < 500; index++) {
      await log.append({ stream: 'stdout', data: Buffer.alloc(10_000, index) }, 1);
    }
    assert.ok(it.agent.link.status().spoolBytes < 1_300_000, `${it.agent.link.status().spoolBytes}`);
    const [closed] = await log.close();
    assert.equal(closed?.lengthBytes, 5_500_000);
    assert.ok(closed!.gapBytes > 0);
    it.proxy.inject({ kind: 'pass' });
    const arrived = () => it.controller.logs.get('big');
    await until('all that was kept came', () => arrived()?.close !== undefined);
    assert.deepEqual(arrived()?.faults, []);
    assert.equal(arrived()?.bytes('stdout').length, 5_500_000 - closed!.gapBytes);
  });

  it('answers a command quickly while output floods the link', async (context) => {
    await using it = await scene({}, CALM_HEARTBEAT_MS);
    const log = await it.agent.link.logs.open('flood');
    let flooding = true;
    const flood = (async () => {
      const data = Buffer.alloc(64_000, 'y');
      while (flooding) await log.append({ stream: 'stdout', data }, 1);
      await log.close();
    })();
    const times: number[] = [];
    for (let index = 0; index < 30; index++) {
      const command = it.controller.command();
      const start = performance.now();
      it.controller.send({ case: 'command', value: command });
      await until('it was received', () =>
        it.controller.received('received').some(({ commandId }) => commandId === command.id),
      );
      times.push(performance.now() - start);
    }
    flooding = false;
    await flood;
    context.diagnostic(`receipt p50 ${times.toSorted((a, b) => a - b)[15]!.toFixed(1)} ms`);
    assert.equal(times.length, 30);
    assert.deepEqual(it.controller.logs.get('flood')?.faults, []);
  });
});
