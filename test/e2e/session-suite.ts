// What a user of sessions is promised, through the command line, a real controller, a real agent and a real engine.
// Called once per kind of engine.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { call, listContainers, removeLabelled } from '../fixtures/engine-query.ts';
import type { TestEngine } from '../fixtures/engines.ts';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { loadTestImages, TEST_IMAGE } from '../fixtures/test-image.ts';

const AGENT = 'host-1';
/** Counts in memory, so that a lost process shows; keeps what it was started with in a file. */
const COUNTER = 'trap "exit 0" TERM; n=0; while true; do n=$((n+1)); echo $n; usleep 50000; done';

/** Goes on for as long as it takes until it is told to end, once. */
const UNTIL_TOLD = 'until [ -e /tmp/end ]; do sleep 0.1; done; rm /tmp/end';

/** What `longline session get --json` gives, as far as tests look at it. */
interface SessionView {
  readonly id: string;
  readonly generation: number;
  readonly state: string;
  readonly cause: string | null;
  readonly reason: string | null;
  readonly unknown_since: string | null;
  readonly container_id: string | null;
  readonly starts: number;
  readonly restarts: number;
  readonly oom_killed: boolean;
  readonly exit_code: number | null;
  readonly network: string | null;
  readonly volumes: readonly { readonly name: string; readonly volume: string }[];
  readonly error: { readonly message: string } | null;
  readonly operation: { readonly id: string; readonly state: string; readonly unchanged: boolean } | null;
}

/** What the engine has that isn't its own. */
interface EngineState {
  readonly containers: readonly string[];
  readonly networks: readonly string[];
  readonly volumes: readonly string[];
}

const OWN_NETWORKS = new Set(['bridge', 'host', 'none', 'podman']);

async function stateOf({ socketPath }: TestEngine): Promise<EngineState> {
  const networks = (await call(socketPath, 'GET', '/networks')) as { Name: string }[];
  const { Volumes } = (await call(socketPath, 'GET', '/volumes')) as { Volumes: { Name: string }[] | null };
  return {
    containers: (await listContainers(socketPath)).map(({ Names }) => Names[0]!).sort(),
    networks: networks.map(({ Name }) => Name).filter((name) => !OWN_NETWORKS.has(name)),
    volumes: (Volumes ?? []).map(({ Name }) => Name).sort(),
  };
}

/** Declares the suite for one engine. `missing` says what the host lacks for it. */
export function sessionSuite(name: string, start: () => Promise<TestEngine>, missing: string | undefined): void {
  describe(`sessions, end to end, on ${name}`, { skip: missing ?? false }, () => {
    let engine: TestEngine;
    let fleet: Fleet;
    let agent: TestAgent;
    before(async () => {
      engine = await start();
      await loadTestImages(engine);
      fleet = await startFleet({ dockerHost: engine.host });
      agent = await fleet.enrolled(AGENT, ['--max-sessions', '4', '--max-cpu', '1.5', '--reconnect-cap', '1s']);
    });
    // What a failed test leaves must not fail those that follow.
    afterEach(async () => {
      await engine.restart();
      await fleet.mend();
      for (const { id } of (await session('ls', '--json')).json<SessionView[]>()) {
        await session('stop', id, '--remove-volumes', '--grace', '0s');
      }
      await removeLabelled(engine.socketPath, 'longline.sessions');
    });
    after(async () => {
      await fleet?.[Symbol.asyncDispose]();
      await engine?.dispose();
    });

    const session = async (...args: string[]) => await fleet.longline('session', ...args);
    const begin = async (id: string, options: readonly string[] = [], script = COUNTER) => {
      const flags = ['--id', id, '--agent', AGENT, '--image', TEST_IMAGE, '--stop-grace', '2s', ...options];
      return await session('start', ...flags, '--json', '--', 'sh', '-c', script);
    };
    const started = async (id: string, options: readonly string[] = [], script = COUNTER) => {
      const outcome = await begin(id, options, script);
      assert.equal(outcome.code, 0, outcome.stderr);
      return outcome.json<SessionView>();
    };
    const get = async (id: string) => (await session('get', id, '--json')).json<SessionView>();
    const becomes = async (id: string, holds: (view: SessionView) => boolean) => {
      let last: SessionView | undefined;
      return await fleet.until(
        `session ${id} becomes what is awaited`,
        async () => {
          last = await get(id);
          return holds(last) ? last : undefined;
        },
        () => `${JSON.stringify(last)}\n${agent.command.stderr.slice(-4000)}`,
      );
    };
    /** All that it counted in its present run, as far as it came whole. */
    const counts = async (id: string) => {
      const text = (await session('logs', id)).stdout.toString();
      const whole = text.slice(0, text.lastIndexOf('\n') + 1);
      return whole.split('\n').slice(0, -1).map(Number);
    };
    const lastCount = async (id: string) => (await counts(id)).at(-1) ?? 0;
    const countsBeyond = async (id: string, count: number) =>
      await fleet.until(`session ${id} counts beyond ${count}`, async () =>
        (await lastCount(id)) > count ? true : undefined,
      );
    /** Its count when no more comes: what it wrote last may still be on its way when it sleeps already. */
    const restingCount = async (id: string) =>
      await fleet.until(`session ${id} counts no more`, async () => {
        const count = await lastCount(id);
        await delay(500);
        return (await lastCount(id)) === count ? count : undefined;
      });
    const act = async (...args: string[]) => {
      const outcome = await session(...args, '--json');
      assert.equal(outcome.code, 0, outcome.stderr);
      return outcome.json<SessionView>();
    };
    /** Ends what waits to be told; the command may end with the container. */
    const tell = async (id: string) => void (await session('exec', id, '--', 'touch', '/tmp/end'));
    /** At once: a stop that has succeeded promises it. */
    const nothingLeft = async (kept: Partial<EngineState> = {}) => {
      const left = await stateOf(engine);
      assert.deepEqual(left, { containers: [], networks: [], volumes: [], ...kept });
    };
    /** Soon: what ended by itself is told first and cleared away then. */
    const nothingStays = async () => {
      let left: EngineState | undefined;
      await fleet.until(
        'nothing of a session that is over stays',
        async () => {
          left = await stateOf(engine);
          return isDeepStrictEqual(left, { containers: [], networks: [], volumes: [] }) ? true : undefined;
        },
        () => `there are ${JSON.stringify(left)}\n${agent.command.stderr.slice(-4000)}`,
      );
    };

    test('starts with network and volume, is the same for the same request, and leaves nothing behind', async () => {
      const first = await started('desk', ['--volume', 'home:/home', '--cpus', '0.5', '--label', 'team=x']);
      assert.equal(first.state, 'running');
      assert.equal(first.volumes.length, 1);
      const there = await stateOf(engine);
      assert.equal(there.containers.length, 1);
      assert.deepEqual(there.networks, [first.network]);
      assert.deepEqual(there.volumes, [first.volumes[0]!.volume]);
      const again = await started('desk', ['--volume', 'home:/home', '--cpus', '0.5', '--label', 'team=x']);
      assert.equal(again.container_id, first.container_id);
      const other = await begin('desk', ['--cpus', '0.75']);
      assert.match(other.stderr, /session desk exists \(on agent host-1, running\)/);
      const room = await fleet.until('its agent says what room it has', async () => {
        const view = (await fleet.longline('agents', 'get', AGENT, '--json')).json<{
          usage: { session_capacity: { max_sessions: number; max_cpus: number; held: number } } | null;
        }>();
        return view.usage?.session_capacity ?? undefined;
      });
      assert.deepEqual([room.max_sessions, room.max_cpus], [4, 1.5]);
      await countsBeyond('desk', 0);

      const stopped = await act('stop', 'desk');
      assert.equal(stopped.state, 'ended');
      await nothingLeft({ volumes: there.volumes });
      assert.equal((await act('stop', 'desk')).state, 'ended');
      assert.equal((await act('stop', 'desk', '--remove-volumes')).state, 'ended');
      await nothingLeft();
      const next = await started('desk');
      assert.equal(next.generation, 2);
      assert.equal((await act('stop', 'desk')).state, 'ended');
    });

    test('keeps memory through pause, and files through stop', async () => {
      const script = `date +%s%N > /tmp/born; ${COUNTER}`;
      const first = await started('sleeper', ['--volume', 'data:/data'], script);
      await countsBeyond('sleeper', 3);
      const paused = await act('hibernate', 'sleeper', '--tier', 'pause');
      assert.equal(paused.state, 'paused');
      assert.equal((await act('hibernate', 'sleeper', '--tier', 'pause')).operation?.unchanged, true);
      const before = await restingCount('sleeper');
      const woken = await act('wake', 'sleeper');
      assert.equal(woken.state, 'running');
      assert.equal(woken.container_id, first.container_id);
      assert.equal(woken.starts, 1);
      await countsBeyond('sleeper', before);
      assert.equal((await act('wake', 'sleeper')).operation?.unchanged, true);

      const slept = await act('hibernate', 'sleeper');
      assert.equal(slept.state, 'hibernated');
      const [container] = await listContainers(engine.socketPath);
      assert.equal(container?.State, 'exited');
      const back = await act('wake', 'sleeper');
      assert.equal(back.container_id, first.container_id);
      assert.equal(back.starts, 2);
      // What is pruned meanwhile is made anew from the record.
      await act('hibernate', 'sleeper');
      await call(engine.socketPath, 'DELETE', `/containers/${first.container_id}`);
      const remade = await act('wake', 'sleeper');
      assert.equal(remade.state, 'running');
      assert.notEqual(remade.container_id, first.container_id);
      assert.equal((await session('logs', 'sleeper', '--attempt', '1')).code, 0);
      await act('stop', 'sleeper', '--remove-volumes');
      await nothingLeft();
    });

    test('says why a start comes to nothing, and undoes what it did', async () => {
      const unknown = await begin('unknown', ['--image', 'localhost:1/none:1', '--pull', 'never', '--volume', 'x:/x']);
      assert.notEqual(unknown.code, 0);
      const view = await get('unknown');
      assert.equal(view.state, 'failed');
      assert.equal(view.cause, 'image_unavailable');
      assert.match(view.error?.message ?? '', /none:1/);
      const sick = await begin('sick', ['--health-cmd', 'exit 1', '--health-interval', '1s', '--start-timeout', '3s']);
      assert.notEqual(sick.code, 0);
      assert.equal((await get('sick')).cause, 'start_timeout');
      const noProgram = await session(
        ...['start', '--id', 'no-program', '--agent', AGENT, '--image', TEST_IMAGE, '--', '/no/such/program'],
      );
      assert.notEqual(noProgram.code, 0);
      assert.equal((await get('no-program')).state, 'failed');
      const forbidden = await begin('forbidden', ['--mount', '/etc:/etc2']);
      assert.equal(forbidden.code, 4, forbidden.stderr);
      assert.match(forbidden.stderr, /decided by: .*images/);
      await nothingStays();
    });

    test('refuses with numbers what the host has no room for', async () => {
      await started('big', ['--cpus', '1']);
      const full = await begin('more', ['--cpus', '0.75']);
      assert.equal(full.code, 1);
      assert.match(full.stderr, /1 of 1.5 cpus are taken, 0.75 asked for/);
      await act('hibernate', 'big');
      await started('more', ['--cpus', '0.75']);
      const noRoom = await session('wake', 'big');
      assert.equal(noRoom.code, 1);
      assert.match(noRoom.stderr, /cpu/);
      assert.equal((await get('big')).state, 'hibernated');
      await act('stop', 'big');
      await act('stop', 'more');
      await nothingLeft();
    });

    test('takes one action at a time; a stop goes before a start', async () => {
      const slow = ['--health-cmd', 'test -e /tmp/never', '--health-interval', '1s', '--start-timeout', '60s'];
      const where = ['--id', 'racer', '--agent', AGENT, '--image', TEST_IMAGE];
      const detached = await session('start', '-d', ...where, ...slow, '--', 'sh', '-c', COUNTER);
      assert.equal(detached.code, 0, detached.stderr);
      await becomes('racer', ({ state }) => state === 'starting');
      const busy = await session('hibernate', 'racer');
      assert.equal(busy.code, 1);
      assert.match(busy.stderr, /a start is under way/);
      const outcomes = await Promise.all([session('stop', 'racer', '--json'), session('stop', 'racer', '--json')]);
      for (const outcome of outcomes) assert.equal(outcome.code, 0, outcome.stderr);
      const ended = await becomes('racer', ({ state }) => state === 'ended' || state === 'failed');
      assert.notEqual(ended.operation?.state, 'active');
      await nothingStays();
      await started('raced');
      const both = await Promise.all([session('hibernate', 'raced', '--json'), session('stop', 'raced', '--json')]);
      assert.ok(both.some(({ code }) => code === 0));
      await becomes('raced', ({ state, operation }) => state === 'ended' && operation?.state === 'succeeded');
      await nothingStays();
    });

    test('restarts what crashes, and gives up when its policy says so', async () => {
      const detached = await session(
        ...['start', '-d', '--id', 'crasher', '--agent', AGENT, '--image', TEST_IMAGE, '--restart', 'on-failure'],
        ...['--', 'sh', '-c', `${UNTIL_TOLD}; exit 3`],
      );
      assert.equal(detached.code, 0, detached.stderr);
      await becomes('crasher', ({ state }) => state === 'running');
      await tell('crasher');
      // A start clears the code of the run before.
      await becomes('crasher', ({ restarts, exit_code, state }) => {
        return restarts >= 1 && (exit_code === 3 || state === 'running');
      });
      await act('stop', 'crasher');
      await started('finisher', ['--restart', 'never'], `${UNTIL_TOLD}; exit 0`);
      await tell('finisher');
      const over = await becomes('finisher', ({ state }) => state === 'ended');
      assert.equal(over.cause, 'exited');
      assert.equal(over.exit_code, 0);
      await nothingStays();
    });

    test('survives its agent, its controller and the word between them', async () => {
      const first = await started('lasting');
      await countsBeyond('lasting', 3);
      await agent.kill9();
      await becomes('lasting', ({ unknown_since }) => unknown_since !== null);
      const meanwhile = await lastCount('lasting');
      agent.start();
      await agent.online();
      const adopted = await becomes('lasting', ({ unknown_since }) => unknown_since === null);
      assert.equal(adopted.container_id, first.container_id);
      assert.equal(adopted.starts, 1);
      await countsBeyond('lasting', meanwhile);
      const lines = await counts('lasting');
      assert.deepEqual(
        lines,
        lines.map((_, index) => index + 1),
        'no line may be lost or doubled',
      );

      await fleet.controller.stop('SIGKILL');
      await fleet.startController();
      await agent.online();
      const same = await get('lasting');
      assert.equal(same.state, 'running');
      assert.equal(same.container_id, first.container_id);
      await act('stop', 'lasting');
      await nothingLeft();
    });

    test('survives the engine', async () => {
      const first = await started('through');
      const health = async () => {
        const { code, stdout } = await fleet.longline('status', '--data-dir', agent.dataFolder, '--health');
        return { code, text: stdout.toString() };
      };
      assert.equal((await health()).code, 0);
      await engine.kill9();
      const dead = await fleet.until('the agent says that its engine is gone', async () => {
        const now = await health();
        return now.code === 1 ? now.text : undefined;
      });
      for (const capability of ['jobs', 'sessions']) {
        assert.match(dead, new RegExp(`failed +${capability} +.*${engine.socketPath}`), 'with what it is about');
      }
      assert.match(dead, /docker info/, 'and what to do');
      await engine.restart();
      await fleet.until('it is well again', async () => ((await health()).code === 0 ? true : undefined));
      await fleet.until('its container runs again', async () => {
        const [container] = await listContainers(engine.socketPath);
        return container?.State === 'running' ? true : undefined;
      });
      const back = await becomes('through', ({ state }) => state === 'running');
      assert.equal(back.restarts, 0, 'what the engine did is no crash of the session');
      await countsBeyond('through', await lastCount('through'));
      assert.equal(back.volumes.length, first.volumes.length);
      await act('stop', 'through');
      await nothingLeft();
    });

    for (const afterMs of [0, 250]) {
      test(`an agent killed ${afterMs} ms into a start and a hibernation ends in a state with nothing leaked`, async () => {
        const id = `killed-${afterMs}`;
        const pause = () => new Promise((resolve) => setTimeout(resolve, afterMs));
        await session('start', '-d', '--id', id, '--agent', AGENT, '--image', TEST_IMAGE, '--', 'sh', '-c', COUNTER);
        await pause();
        await agent.kill9();
        agent.start();
        await agent.online();
        const settled = await becomes(id, ({ state, operation }) => {
          return operation?.state !== 'pending' && operation?.state !== 'active' && /running|failed/.test(state);
        });
        if (settled.state === 'running') {
          await session('hibernate', id, '-d');
          await pause();
          await agent.kill9();
          agent.start();
          await agent.online();
          await becomes(id, ({ operation }) => operation?.state !== 'pending' && operation?.state !== 'active');
          await becomes(id, ({ state }) => /running|hibernated|failed/.test(state));
        }
        await act('stop', id);
        await nothingStays();
      });
    }
  });
}
