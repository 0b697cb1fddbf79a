// What every SessionEngine must do, run against Docker, Podman and the fake. One suite, so that the fake can't promise what
// the real ones don't keep.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, suite, test } from 'node:test';
import type { SessionContainerSpec, SessionEngine, SessionEngineEvent } from '../../src/capabilities/sessions/ports.ts';
import { LonglineError, type Reason } from '../../src/core/errors.ts';
import { newId } from '../../src/core/ids.ts';
import type { OutputPiece } from '../../src/core/output/output-log.ts';
import type { SessionCommand } from '../../src/core/session-access.ts';
import { eventually } from './engine-contract.ts';

/** An engine under test, and its daemon's life. */
export interface SessionEngineSubject extends AsyncDisposable {
  readonly engine: SessionEngine;
  readonly image: string;
  readonly daemon: { lose(): Promise<void>; recover(): Promise<void> };
}

/** What engines may differ in. */
export interface SessionEngineTraits {
  readonly kind: 'docker' | 'podman';
  /** Runs real programs, and not functions. */
  readonly real: boolean;
}

const LABEL = 'longline-session-contract';
/** For what answers or refuses at once. */
const PROBE_LIMIT_MS = 20_000;
/** Says which run it is, then writes it down, listens on two ports, and ends at TERM with its trap's word. */
const SERVER = [
  'trap "echo bye; exit 0" TERM; touch /data/runs; echo "run $(($(wc -l < /data/runs) + 1))"; echo run >> /data/runs',
  'httpd -p 8080 -h /data; nc -ll -p 5901 -e cat & while :; do sleep 0.05; done',
].join('; ');

function rejectsWith(promise: Promise<unknown>, reason: Reason): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof LonglineError, `not a LonglineError: ${String(error)}`);
    assert.equal(error.reason, reason, error.message);
    return true;
  });
}

async function textOf(output: AsyncIterable<OutputPiece>): Promise<string> {
  let text = '';
  for await (const { data } of output) text += Buffer.from(data).toString();
  return text;
}

function command(argv: readonly string[], terminal = false): SessionCommand {
  return { argv, env: {}, user: '', workingDir: '', terminal, size: terminal ? { columns: 101, rows: 33 } : undefined };
}

/** Registers the suite. */
export function sessionEngineContract(
  name: string,
  setUp: () => Promise<SessionEngineSubject>,
  traits: SessionEngineTraits,
  skip = '',
): void {
  suite(`session engine contract: ${name}`, { skip: skip === '' ? false : skip }, () => {
    let subject: SessionEngineSubject;
    let engine: SessionEngine;
    let imageId = '';
    let subnets = 0;
    /** Value of the label on all that a test makes, so that it doesn't see what another left. */
    let mark = '';
    const made = { containers: [] as string[], networks: [] as string[], volumes: [] as string[] };
    before(async () => {
      subject = await setUp();
      engine = subject.engine;
      imageId = (await engine.findImage(subject.image))!.id;
    });
    beforeEach(() => {
      mark = newId();
    });
    afterEach(async () => {
      for (const id of made.containers.splice(0)) await engine.removeContainer(id);
      for (const one of made.networks.splice(0)) await engine.removeNetwork(one);
      for (const one of made.volumes.splice(0)) await engine.removeVolume(one);
    });
    after(async () => {
      await subject?.[Symbol.asyncDispose]();
    });

    const network = async () => {
      const id = `ll-contract-${newId()}`;
      made.networks.push(id);
      const subnet = `10.214.${subnets++}.0/28`;
      await engine.createNetwork({ name: id, labels: { [LABEL]: mark }, internal: false, subnet });
      return { name: id, subnet };
    };
    const volume = async () => {
      const id = `ll-contract-${newId()}`;
      made.volumes.push(id);
      await engine.createVolume({ name: id, labels: { [LABEL]: mark }, driver: 'local', options: {}, quotaBytes: 0 });
      return id;
    };
    const create = async (changes: Partial<SessionContainerSpec> = {}) => {
      const spec: SessionContainerSpec = {
        ...{ name: `ll-contract-${newId()}`, image: imageId, entrypoint: undefined },
        ...{ command: ['sh', '-c', SERVER], env: {}, workingDir: '', user: '', hostname: 'session' },
        ...{ labels: { [LABEL]: mark }, cpus: 1, memoryBytes: 64 * 1024 ** 2, pids: 64, shmBytes: 1024 ** 2 },
        ...{ network: undefined, mounts: [], addCapabilities: [], readOnlyRoot: false, noNewPrivileges: true },
        ...{ runtime: '', terminal: false, openStdin: false, stopSignal: '', keepLogBytes: 1024 ** 2, ...changes },
      };
      const id = await engine.createContainer(spec);
      made.containers.push(id);
      return { id, spec };
    };
    const launch = async (changes: Partial<SessionContainerSpec> = {}) => {
      const data = await volume();
      const mounts = [{ kind: 'volume' as const, source: data, target: '/data', writable: true }];
      const { id, spec } = await create({ mounts, ...changes });
      const connection = await engine.attachOutput(id, spec.terminal);
      await engine.startContainer(id);
      return { id, spec, connection, data };
    };

    test('says what it is, and why it makes no checkpoints if it makes none', async () => {
      const facts = await engine.sessionFacts();
      assert.equal(facts.kind, traits.kind);
      assert.ok(facts.runtimes.includes(facts.defaultRuntime));
      assert.notEqual(facts.checkpointMissing, '');
    });

    test('makes networks once, refuses a subnet twice, keeps one that is in use, and forgets one that is absent', async () => {
      const { name: one, subnet } = await network();
      const spec = { name: one, labels: {}, internal: true, subnet: '10.214.200.0/28' };
      await rejectsWith(engine.createNetwork(spec), 'already_exists');
      await rejectsWith(engine.createNetwork({ ...spec, name: `${one}-2`, subnet }), 'limit');
      const found = await engine.findNetwork(one);
      assert.deepEqual([found?.name, found?.labels[LABEL], found?.subnets], [one, mark, [subnet]]);
      made.networks.push(`${one}-in`);
      await engine.createNetwork({ ...spec, name: `${one}-in` });
      assert.deepEqual([found?.internal, (await engine.findNetwork(`${one}-in`))?.internal], [false, true]);
      assert.ok((await engine.listNetworks()).some((other) => other.name === one && other.labels[LABEL] === mark));
      await launch({ network: one });
      await rejectsWith(engine.removeNetwork(one), 'wrong_state');
      assert.equal(await engine.findNetwork('ll-contract-absent'), undefined);
      await engine.removeNetwork('ll-contract-absent');
    });

    test('makes volumes with labels, keeps one that is in use, and refuses a quota it can not hold to', async () => {
      const { data } = await launch();
      assert.equal((await engine.findVolume(data))?.labels[LABEL], mark);
      assert.deepEqual(
        (await engine.listVolumes(LABEL, mark)).map((one) => one.name),
        [data],
      );
      await rejectsWith(engine.removeVolume(data), 'wrong_state');
      assert.equal(await engine.findVolume('ll-contract-absent'), undefined);
      await engine.removeVolume('ll-contract-absent');
      const quota = {
        name: `ll-contract-${newId()}`,
        labels: {},
        driver: 'local',
        options: {},
        quotaBytes: 10_000_000,
      };
      await rejectsWith(engine.createVolume(quota), 'unsupported');
    });

    test('refuses a taken name, and lists in one call what carries a label', async () => {
      const { id, spec } = await create();
      await rejectsWith(engine.createContainer(spec), 'already_exists');
      const rows = await engine.listContainers(LABEL, mark);
      assert.deepEqual(
        rows.map((row) => [row.id, row.name, row.state]),
        [[id, spec.name, 'created']],
      );
      assert.deepEqual(await engine.listContainers(LABEL, 'other'), []);
      assert.equal((await engine.inspectContainer(spec.name))?.id, id);
      assert.equal(await engine.inspectContainer('ll-contract-absent'), undefined);
    });

    test('runs, stops with grace and starts again with its files, and loses no output of either run', async () => {
      const { id, connection, data } = await launch();
      const first = textOf(connection.output);
      await engine.startContainer(id);
      await eventually(
        async () => ((await engine.inspectContainer(id))?.state === 'running' ? true : undefined),
        'it to run',
      );
      if (traits.real) await runs(id, 1);
      await engine.stopContainer(id, 5000);
      await engine.stopContainer(id, 5000);
      assert.match(await first, /^run 1\n(bye\n)?$/);
      const stopped = await engine.inspectContainer(id);
      assert.equal(stopped?.state, 'exited');
      assert.notEqual(stopped.exitCode, undefined);
      const since = Date.now();
      const again = await engine.attachOutput(id, false);
      const second = textOf(again.output);
      await engine.startContainer(id);
      if (traits.real) await runs(id, 2);
      await engine.stopContainer(id, 5000);
      assert.match(await second, /^run 2\n/);
      const kept = await textOf(engine.readOutput(id, { sinceMs: since - 1000, follow: false, terminal: false }));
      assert.match(kept, /run 2\n/);
      assert.ok(data !== '');
    });

    /** Waits until its server has begun as often; it has its trap then, and has said which run it is. */
    const runs = async (id: string, count: number) => {
      await eventually(async () => {
        const terminal = await engine.execute(id, command(['sh', '-c', 'wc -l < /data/runs']));
        return (await textOf(terminal.output)) === `${count}\n` ? true : undefined;
      }, `run ${count}`);
    };

    test('pauses and unpauses, each as often as asked, and stops what was unpaused', async () => {
      const { id } = await launch();
      await engine.pauseContainer(id);
      await engine.pauseContainer(id);
      assert.equal((await engine.inspectContainer(id))?.state, 'paused');
      assert.equal((await engine.listContainers(LABEL, mark))[0]?.state, 'paused');
      await rejectsWith(engine.execute(id, command(['true'])), 'wrong_state');
      await engine.unpauseContainer(id);
      await engine.unpauseContainer(id);
      assert.equal((await engine.inspectContainer(id))?.state, 'running');
    });

    test('tells that containers end and are removed', async () => {
      const { id } = await launch();
      const listening = new AbortController();
      const seen: SessionEngineEvent[] = [];
      const events = (async () => {
        for await (const event of engine.sessionEvents(listening.signal)) seen.push(event);
      })().catch(() => undefined);
      // Podman answers nothing until something happens, so something happens until it is heard.
      await eventually(async () => {
        const { id: brief } = await create();
        await engine.removeContainer(brief);
        return seen.length > 0 ? true : undefined;
      }, 'the events to be listened to');
      await engine.stopContainer(id, 0);
      await engine.removeContainer(id);
      await eventually(
        async () => (seen.some((event) => event.kind === 'removed' && event.containerId === id) ? true : undefined),
        'the removal to be told',
      );
      assert.deepEqual(
        [...new Set(seen.filter(({ containerId }) => containerId === id).map(({ kind }) => kind))],
        ['exited', 'removed'],
      );
      listening.abort();
      await events;
    });

    test('keeps an image that a container is made from', async () => {
      await create();
      assert.ok((await engine.listImages()).some(({ id }) => id === imageId));
      await rejectsWith(engine.removeImage(imageId), 'wrong_state');
      const disk = await engine.imageDisk();
      assert.ok(disk === undefined || disk.totalBytes >= disk.freeBytes);
    });

    test('fails as unavailable while its daemon is away, and finds everything when it is back', async () => {
      const { id } = await launch();
      await subject.daemon.lose();
      try {
        await rejectsWith(engine.inspectContainer(id), 'unavailable');
        await rejectsWith(engine.listContainers(LABEL, mark), 'unavailable');
      } finally {
        await subject.daemon.recover();
      }
      await eventually(async () => (await engine.inspectContainer(id).catch(() => undefined))?.state, 'the container');
      assert.equal((await engine.listContainers(LABEL, mark)).length, 1);
    });

    if (traits.real) reality(() => ({ engine, launch, network, create, runs }));
  });
}

interface Hands {
  readonly engine: SessionEngine;
  launch(changes?: Partial<SessionContainerSpec>): Promise<{ readonly id: string }>;
  create(changes?: Partial<SessionContainerSpec>): Promise<{ readonly id: string }>;
  network(): Promise<{ readonly name: string }>;
  runs(id: string, count: number): Promise<void>;
}

/** What only real programs show. */
function reality(hands: () => Hands): void {
  test('runs commands inside with input, streams, exit code and signals', async () => {
    const { engine, launch } = hands();
    const { id } = await launch();
    const terminal = await engine.execute(id, command(['sh', '-c', 'cat; echo err >&2; exit 3']));
    await terminal.write(Buffer.from('typed'));
    await terminal.end();
    const pieces: Record<string, string> = { stdout: '', stderr: '' };
    for await (const { stream, data } of terminal.output) pieces[stream] += Buffer.from(data).toString();
    assert.deepEqual([pieces, await terminal.exitCode()], [{ stdout: 'typed', stderr: 'err\n' }, 3]);
    terminal.destroy();
    const sleeping = await engine.execute(id, command(['sleep', '600'], true));
    await sleeping.resize(90, 20);
    await sleeping.signal('SIGKILL');
    await textOf(sleeping.output);
    assert.equal(await sleeping.exitCode(), 137);
    sleeping.destroy();
  });

  test('attaches to a main process with a terminal', async () => {
    const { engine, launch } = hands();
    const { id } = await launch({
      terminal: true,
      openStdin: true,
      command: ['sh', '-c', 'read line; echo "got $line"; sleep 600'],
    });
    const terminal = await engine.attachMain(id, { terminal: true, withInput: true });
    await terminal.write(Buffer.from('hi\n'));
    let seen = '';
    for await (const { data } of terminal.output) {
      seen += Buffer.from(data).toString();
      if (seen.includes('got hi')) break;
    }
    assert.match(seen, /got hi/);
    await rejectsWith(terminal.signal('SIGINT'), 'unsupported');
    terminal.destroy();
    assert.equal((await engine.inspectContainer(id))?.state, 'running');
  });

  test('reaches ports of a container, and says why not', async () => {
    const { engine, launch, network, runs } = hands();
    const { name } = await network();
    const { id } = await launch({ network: name });
    await runs(id, 1);
    const { addresses, pid } = (await engine.inspectContainer(id))!;
    assert.match(addresses[0] ?? '', /^10\.214\./);
    for (const target of [
      { addresses, pid: undefined },
      { addresses: [], pid },
    ]) {
      const answers = async () =>
        await engine.probeTcp(target, 5901, PROBE_LIMIT_MS).then(
          () => true,
          () => undefined,
        );
      await eventually(answers, 'the port to take connections');
      await rejectsWith(engine.probeTcp(target, 5902, PROBE_LIMIT_MS), 'unavailable');
    }
    assert.equal(await engine.probeHttp({ addresses, pid }, 8080, '/runs', PROBE_LIMIT_MS), 200);
    await rejectsWith(engine.probeHttp({ addresses, pid }, 5901, '/', PROBE_LIMIT_MS), 'unavailable');
  });

  test('measures by files of the kernel and by its API alike', async () => {
    const { engine, launch, network, runs } = hands();
    const { name } = await network();
    const { id } = await launch({ network: name });
    await runs(id, 1);
    const { pid } = (await engine.inspectContainer(id))!;
    for (const measured of [
      { id, pid },
      { id, pid: undefined },
    ]) {
      // It says that it runs before all of its processes do.
      const reading = await eventually(async () => {
        const now = (await engine.readResources([measured])).get(id)!;
        return now.cpuNanos > 1_000_000 && now.memoryBytes > 100_000 && now.pids >= 2 ? now : undefined;
      }, 'processor time, memory and more than one process');
      assert.ok(reading.memoryBytes < 64 * 1024 ** 2, `memory ${reading.memoryBytes}`);
    }
  });

  test('says that a run was out of memory, or gives the exit code that stands for it', async () => {
    const { engine, launch } = hands();
    const { id } = await launch({ command: ['sh', '-c', 'exec tail /dev/zero'], memoryBytes: 16 * 1024 ** 2 });
    const facts = await eventually(async () => {
      const now = await engine.inspectContainer(id);
      return now?.state === 'exited' ? now : undefined;
    }, 'the memory kill');
    assert.ok(facts.oomKilled || facts.exitCode === 137);
  });
}
