// A program on a real agent and the real kernel, as those see it who watch: NATS, the local HTTP API, and events of its ring buffer.
// All of it in a network namespace of its own.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ProgramParameterType } from '#gen/longline/v1/program_pb.js';
import { KernelLab, kernelLabMissing } from '../fixtures/bpf/kernel-lab.ts';
import type { ObjectName } from '../fixtures/bpf/objects.ts';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { freePort, missingNats, NatsServer } from '../fixtures/nats-server.ts';
import { newAuthor, testArtifact } from '../fixtures/test-artifact.ts';
import { clientOf, closeAll, listen, type Published } from '../platform/nats/nats-fixture.ts';

const THROUGH_A_PROXY = { 'x-forwarded-for': '203.0.113.9' };

const EVENTS = [
  {
    map: 'events',
    type: 'packet',
    perSecond: 5,
    fields: [{ name: 'number', type: ProgramParameterType.UINT, offset: 0, size: 8 }],
  },
];

describe('a program that is watched', { skip: kernelLabMissing() ?? missingNats ?? false }, () => {
  let lab: KernelLab;
  let fleet: Fleet;
  let nats: NatsServer;
  let agent: TestAgent;
  let httpPort: number;
  let heard: readonly Published[];
  const author = newAuthor();

  before(async () => {
    lab = await KernelLab.create();
    fleet = await startFleet();
    nats = await NatsServer.start();
    httpPort = await freePort();
    ({ heard } = await listen(nats.address));
    await writeFile(file('author.pem'), author.publicPem);
    agent = await fleet.enrolled('watched-1', [
      ...['--programs-nats-url', nats.url, '--http-port', String(httpPort), '--programs-bpf-fs', lab.pins],
      ...[
        '--programs-rollback-check-interval',
        '1s',
        '--programs-rollback-delay',
        '1s',
        '--programs-key-file',
        file('author.pem'),
      ],
    ]);
  });
  after(async () => {
    await closeAll();
    await fleet?.[Symbol.asyncDispose]();
    await nats?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  const file = (name: string) => join(fleet.folder, name);

  async function longline(...args: readonly string[]): Promise<void> {
    const outcome = await fleet.longline(...args);
    assert.equal(outcome.code, 0, `${args.join(' ')}: ${outcome.stderr}`);
  }

  async function pack(object: ObjectName, version: string, events: typeof EVENTS = []): Promise<string> {
    const path = file(`${version}.tar.zst`);
    await writeFile(path, await testArtifact(object, author, { name: 'watched', version, events }));
    return path;
  }

  const load = async (artifact: string, ...more: readonly string[]) =>
    await longline(
      'program',
      'load',
      '--agent',
      'watched-1',
      '--artifact',
      artifact,
      '--attach',
      `xdp:${lab.interfaces[0]}`,
      ...more,
    );

  async function http(path: string, headers: Readonly<Record<string, string>> = {}) {
    const response = await fetch(`http://127.0.0.1:${httpPort}${path}`, { headers });
    return { status: response.status, text: await response.text() };
  }

  async function until<T>(what: string, found: () => T | undefined | Promise<T | undefined>): Promise<T> {
    return await fleet.until(
      what,
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        return await found();
      },
      () => agent.command.stderr,
    );
  }

  const find = (more: (data: Published['data']) => boolean, type: string) =>
    heard.find((one) => one.type === type && more(one.data));

  it('is told of with live counts over NATS and HTTP', async () => {
    await load(await pack('xdp-counter', '1.0.0'));
    const loaded = await until('loaded', () => find(({ status }) => status === 'loaded', 'program_event'));
    assert.deepEqual([loaded.data['program'], loaded.data['version']], ['watched', '1.0.0']);
    await lab.send(25);
    const told = await until('its packets', () =>
      find(({ packets_processed: packets }) => packets === 25, 'program_telemetry'),
    );
    assert.deepEqual([told.data['host_id'], told.data['status']], ['watched-1', 'running']);
    await until('life', () => find(({ loaded_programs: count }) => count === 1, 'agent_heartbeat'));
    const health = await http('/healthz');
    assert.equal(health.status, 200);
    const { checks } = JSON.parse(health.text) as { checks: { name: string; state: string }[] };
    assert.equal(checks.find(({ name }) => name === 'programs')?.state, 'ok');
    assert.equal(JSON.parse((await http('/version')).text).agentId, 'watched-1');
    const { telemetry } = JSON.parse((await http('/telemetry')).text);
    assert.deepEqual([telemetry[0].name, telemetry[0].figures.packets], ['watched', '25']);
    assert.equal(JSON.parse((await http('/programs')).text).programs[0].status.current.version, '1.0.0');
    assert.equal((await http('/programs', THROUGH_A_PROXY)).status, 403);
  });

  it('shows that a program is not where it is to be, until it is there again', async () => {
    const [, second] = lab.interfaces;
    const name = 'moved';
    const path = file('moved.tar.zst');
    await writeFile(path, await testArtifact('xdp-counter', author, { name, version: '1.0.0' }));
    const where = ['--agent', 'watched-1', '--artifact', path, '--attach', `xdp:${second}`];
    await longline('program', 'load', ...where);
    const check = async () => {
      const { checks } = JSON.parse((await http('/healthz')).text) as { checks: Record<string, string>[] };
      return checks.find(({ name: one }) => one === 'programs')!;
    };
    await until('well', async () => ((await check())['state'] === 'ok' ? true : undefined));
    // Behind the back of the agent: its links go with the interface.
    await lab.removeInterface();
    const found = await until('degraded', async () => {
      const now = await check();
      return now['state'] === 'degraded' ? now : undefined;
    });
    assert.match(found['reason']!, new RegExp(`moved detached \\(attach\\[0\\]: .*${second}`));
    assert.match(found['mend']!, /longline program status/);
    assert.equal((await http('/healthz')).status, 200);
    await lab.makeInterface();
    await until('well again', async () => ((await check())['state'] === 'ok' ? true : undefined));
    await longline('program', 'unload', name, '--agent', 'watched-1');
  });

  it('goes back by itself when its next revision errs, and the reason is told everywhere', async () => {
    await load(await pack('xdp-counter-bad', '1.1.0'), '--max-errors', '10', '--detach');
    await until('the next revision', () =>
      find(({ status, version }) => status === 'loaded' && version === '1.1.0', 'program_event'),
    );
    // One bad moment would be no reason.
    const { data } = await until('rolled back', async () => {
      await lab.send(20);
      return find(({ status }) => status === 'rolled_back', 'program_event');
    });
    assert.deepEqual([data['trigger'], data['threshold'], data['version']], ['errors', 10, '1.1.0']);
    assert.match(String(data['reason']), /errors in .*; at most 10 in 1 s are allowed/);
    assert.ok((data['values'] as { errors_delta: number }).errors_delta > 10);
    const { rollbacks } = JSON.parse((await http('/rollbacks')).text);
    assert.deepEqual(
      [rollbacks[0].program, rollbacks[0].from.version, rollbacks[0].to.version],
      ['watched', '1.1.0', '1.0.0'],
    );
  });

  it('goes back when somebody asks for it over NATS, and tells its events', async () => {
    const previous = heard.filter(({ data }) => data['status'] === 'rolled_back').length;
    await load(await pack('xdp-events', '1.2.0', EVENTS));
    await lab.send(30);
    await until('an event of the ring buffer', async () => {
      const { stdout } = await fleet.longline('agents', 'events', 'watched-1', '--json');
      return /program\.packet/.test(String(stdout)) || undefined;
    });
    const client = await clientOf(nats.address);
    const ask = async (request: Record<string, string>) =>
      (await client.request('orchestrator.rollback.watched-1', JSON.stringify(request), { timeout: 60_000 })).json<{
        ok: boolean;
        rollback?: Record<string, unknown>;
        error?: { reason: string; message: string };
      }>();
    const refused = await ask({ program: 'nobody' });
    assert.deepEqual([refused.ok, refused.error?.reason], [false, 'not_found']);
    const { ok, rollback, error } = await ask({ program: 'watched', reason: 'the orchestrator says so' });
    assert.ok(ok, JSON.stringify(error));
    assert.deepEqual([rollback?.['requested_by'], rollback?.['reason']], ['nats', 'the orchestrator says so']);
    await until('told', () => {
      const all = heard.filter(({ data }) => data['status'] === 'rolled_back');
      return all.length > previous ? all.at(-1) : undefined;
    });
    await lab.send(5);
    const { programs } = JSON.parse((await http('/programs')).text);
    assert.equal(programs[0].status.current.version, '1.0.0', 'what was good before runs');
  });
});
