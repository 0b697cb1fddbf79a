// The capability on real engines: what sleeps keeps, what a crash leaves, and that nothing is left at the end.
import assert from 'node:assert/strict';
import { after, afterEach, before, suite, test } from 'node:test';
import type { SessionsCapability } from '../../../src/capabilities/sessions/capability.ts';
import { duration } from '../../../src/capabilities/sessions/wire.ts';
import { parseEngineAddress } from '../../../src/platform/docker/engine-address.ts';
import { DockerSessionEngine } from '../../../src/platform/docker/session-engine.ts';
import { removeLabelled } from '../../fixtures/engine-query.ts';
import { dockerMissing, podmanMissing, startDocker, startPodman, type TestEngine } from '../../fixtures/engines.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../../fixtures/test-image.ts';
import { Sent, SessionCause, SessionState, SessionsWorld, startOf, up } from './sessions-fixture.ts';

const forever = new AbortController().signal;

/** Counts in memory and in its own file system, and takes connections. Renamed, so that no reader finds the file empty. */
const PROGRAM = [
  'trap "exit 0" TERM; echo start >> /root/starts 2>/dev/null || echo start >> /tmp/starts; echo begun',
  'nc -ll -p 5901 -e cat & i=0',
  'while :; do i=$((i+1)); echo $i > /data/next; mv /data/next /data/count; sleep 0.02; done',
].join('; ');

/** Its count, which isn't there yet when the port answers already. */
const COUNT = 'for try in $(seq 500); do [ -e /data/count ] && break; sleep 0.02; done; cat /data/count';

const SPEC = {
  image: TEST_IMAGE,
  command: ['sh', '-c', PROGRAM],
  volumes: [{ name: 'data', target: '/data' }],
  ports: [{ name: 'echo', number: 5901 }],
  resources: { memoryBytes: 64n * 1024n ** 2n, pids: 64 },
  restart: { backoff: duration(100), maxBackoff: duration(100) },
};

function act(sessions: SessionsCapability, kind: 'hibernate' | 'wake' | 'stop', more: object = {}) {
  return new Sent(sessions, { case: kind, value: { sessionId: 'one', ...more } } as never).result();
}

function onEngine(name: string, start: () => Promise<TestEngine>, missing: string | undefined): void {
  suite(`sessions on ${name}`, { skip: missing ?? false }, () => {
    let daemon: TestEngine;
    before(async () => {
      daemon = await start();
      await loadTestImages(daemon);
    });
    after(async () => {
      await daemon?.dispose();
    });
    let instanceId = '';
    const world = () => {
      const made = new SessionsWorld(new DockerSessionEngine(parseEngineAddress(daemon.host)));
      instanceId = made.instanceId;
      return made;
    };
    // What a failed test leaves, also a daemon that is down, must not fail those that follow.
    afterEach(async () => {
      await daemon.restart();
      await removeLabelled(daemon.socketPath, `longline.sessions=${instanceId}`);
    });

    const said = async (sessions: SessionsCapability, script: string) => {
      using visit = await sessions.visit('one', { wake: true }, forever);
      const command = {
        argv: ['sh', '-c', script],
        env: {},
        user: '',
        workingDir: '',
        terminal: false,
        size: undefined,
      };
      const terminal = await visit.execute(command, forever);
      let text = '';
      for await (const { data } of terminal.output) text += Buffer.from(data).toString();
      return text.trim();
    };

    test('a pause keeps memory, a stop keeps files, and a stopped session leaves nothing but its volume', async () => {
      await using place = world();
      const sessions = await place.start();
      const status = await up(sessions, 'one', SPEC);
      assert.equal(status.state, SessionState.RUNNING);
      assert.equal(status.ports[0]?.reachable, true);
      const first = Number(await said(sessions, COUNT));
      assert.ok(first > 0, `it counts, and the count is ${first}`);
      await act(sessions, 'hibernate', { tier: 1 });
      await act(sessions, 'wake');
      const second = Number(await said(sessions, COUNT));
      assert.ok(second >= first, `the process counted to ${first} before its pause, and to ${second} after it`);
      assert.equal(await said(sessions, 'cat /root/starts /tmp/starts 2>/dev/null | wc -l'), '1');
      await act(sessions, 'hibernate', { tier: 2 });
      const woken = await act(sessions, 'wake');
      assert.equal(woken.status?.starts, 2, woken.error?.message ?? '');
      assert.equal(await said(sessions, 'cat /root/starts /tmp/starts 2>/dev/null | wc -l'), '2');
      await place.untilLogged('one.1', 1, 'begun\n');
      await place.untilLogged('one.1', 2, 'begun\n');
      const ended = await act(sessions, 'stop');
      assert.equal(ended.outcome, 'succeeded', ended.error?.message ?? '');
      const label = 'longline.sessions';
      assert.deepEqual(await place.engine.listContainers(label, place.instanceId), []);
      const networks = await place.engine.listNetworks();
      assert.ok(networks.every(({ labels }) => labels[label] !== place.instanceId));
      assert.equal((await place.engine.listVolumes(label, place.instanceId)).length, 1);
      await act(sessions, 'stop', { removeVolumes: true });
      assert.equal((await place.engine.listVolumes(label, place.instanceId)).length, 0);
    });

    test('goes on under a new agent and a new daemon, and comes back after a crash', async () => {
      await using place = world();
      const first = await place.start();
      const { containerId } = await up(first, 'one', SPEC);
      await place.letGo();
      const second = await place.start();
      const before = (await place.engine.inspectContainer(containerId))!;
      assert.equal(before.state, 'running');
      await daemon.kill9();
      await daemon.restart();
      await said(second, 'true');
      const after = (await place.engine.inspectContainer(containerId))!;
      assert.deepEqual([after.pid, after.startedAtMs], [before.pid, before.startedAtMs], 'it was not restarted');
      process.kill(after.pid!, 'SIGKILL');
      const back = await place.until(
        'one',
        ({ starts, state }) => starts === 2 && state === SessionState.RUNNING,
        'the restart',
      );
      assert.equal(back.cause, SessionCause.EXITED);
      const ended = await act(second, 'stop', { removeVolumes: true, grace: duration(1000) });
      assert.equal(ended.outcome, 'succeeded', ended.error?.message ?? '');
      assert.deepEqual(await place.engine.listContainers('longline.sessions', place.instanceId), []);
    });

    test('a start that fails leaves nothing and says why', async () => {
      await using place = world();
      const sessions = await place.start();
      const failed = await new Sent(sessions, startOf('one', { ...SPEC, command: ['/no/such/program'] })).result();
      assert.equal(failed.outcome, 'failed');
      assert.match(failed.error!.message, /no such file|not found|executable/i);
      for (const list of [place.engine.listContainers, place.engine.listVolumes]) {
        assert.deepEqual(await list.call(place.engine, 'longline.sessions', place.instanceId), []);
      }
    });
  });
}

onEngine('Docker', () => startDocker({ liveRestore: true }), dockerMissing() ?? testImageMissing());
onEngine('Podman', startPodman, podmanMissing() ?? testImageMissing());
