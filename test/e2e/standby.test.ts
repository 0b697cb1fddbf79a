// What a replica tells of itself while it stands by, while it takes over and while it lets go: over HTTP and on its socket, which
// stay where they are whatever its part is. No engine is needed.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, rm, rmdir } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { promtool } from '../fixtures/prometheus.ts';

const BRISK = ['--ha-lease-ttl', '1s', '--ha-renew-interval', '300ms'];

interface Health {
  readonly status: string;
  readonly role: string;
  readonly leadership: {
    readonly role: string;
    readonly leader: string;
    readonly epoch: string;
    readonly problem: string;
  };
  readonly checks: readonly {
    readonly name: string;
    readonly state: string;
    readonly reason: string;
    readonly mend: string;
  }[];
}

interface Answer {
  readonly status: number;
  readonly body: string;
  json<T>(): T;
}

/** Rejects if nobody listens. */
async function get(place: { readonly socketPath: string } | { readonly port: number }, path: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  request({ host: '127.0.0.1', ...place, path, agent: false }, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      resolve({ status: response.statusCode!, body, json: () => JSON.parse(body) });
    });
  })
    .on('error', reject)
    .end();
  return await promise;
}

/** A port that is free. */
async function freePort(): Promise<number> {
  const holder = createServer();
  holder.listen(0, '127.0.0.1');
  await once(holder, 'listening');
  const { port } = holder.address() as { port: number };
  holder.close();
  await once(holder, 'close');
  return port;
}

class Replica {
  readonly agent: TestAgent;
  readonly socket: string;
  readonly http: string;
  readonly #fleet: Fleet;

  constructor(fleet: Fleet, id: string, name: string, more: readonly string[] = []) {
    this.#fleet = fleet;
    this.socket = join(fleet.folder, `${name}.sock`);
    this.http = join(fleet.folder, `${name}.http`);
    const ha = ['--enable-ha', '--lock-file-path', join(fleet.folder, `${id}.lock`), ...BRISK];
    this.agent = fleet.agent(id, [...ha, '--local-socket', this.socket, '--http-socket', this.http, ...more]);
  }

  async get(path: string): Promise<Answer> {
    return await get({ socketPath: this.http }, path);
  }

  /** Asks until an answer is as wanted. */
  async until(what: string, path: string, wanted: (answer: Answer) => boolean): Promise<Answer> {
    return await this.#fleet.until(
      what,
      async () => {
        const answer = await this.get(path).catch(() => undefined);
        return answer !== undefined && wanted(answer) ? answer : undefined;
      },
      () => this.agent.command.stderr,
    );
  }

  async leads(): Promise<Answer> {
    return await this.until('this one leads', '/leader', ({ status }) => status === 200);
  }
}

const electionOf = ({ checks }: Health) => checks.find(({ name }) => name === 'election')!;

describe('a replica that stands by', () => {
  let fleet: Fleet;
  let first: Replica;
  let second: Replica;
  before(async () => {
    fleet = await startFleet();
    first = new Replica(fleet, 'pair', 'first');
    second = new Replica(fleet, 'pair', 'second');
    first.agent.start(['--token', await fleet.token()]);
    await first.leads();
    second.agent.start();
    await second.until('the second stands by', '/readyz', ({ status }) => status === 200);
  });
  after(async () => await fleet?.[Symbol.asyncDispose]());

  test('tells that it is well, ready to take over, who leads, and nothing of what it does not have', async () => {
    const { status, json } = await second.until('who leads', '/healthz', ({ body }) => body.includes(' leads, epoch '));
    const health = json<Health>();
    assert.deepEqual([status, health.status, health.role], [200, 'ok', 'standby']);
    const leader = (await first.get('/healthz')).json<Health>();
    assert.deepEqual([leader.role, electionOf(leader).state], ['leader', 'ok']);
    const { leadership } = health;
    assert.deepEqual([leadership.leader, leadership.problem], [leader.leadership.leader, '']);
    assert.equal(leadership.epoch, leader.leadership.epoch);
    assert.deepEqual((await second.get('/readyz')).json(), { ready: true, role: 'standby' });
    const notLeader = await second.get('/leader');
    assert.deepEqual([notLeader.status, notLeader.json()], [503, { leads: false, reason: 'this replica stands by' }]);
    assert.equal((await second.get('/livez')).status, 200);
    assert.equal((await second.get('/version')).json<{ agentId: string }>().agentId, 'pair');
    const told = (await second.get('/status')).json<{ leadership: { role: string }; linkReason: string }>();
    assert.deepEqual([told.leadership.role, told.linkReason], ['standby', 'this replica stands by']);
    const programs = await second.get('/programs');
    assert.equal(programs.status, 503);
    assert.match(programs.body, new RegExp(`ask the leader, ${leadership.leader}`));
  });

  test('tells its own figures, all of them and no others', async () => {
    const { status, body } = await second.get('/metrics');
    assert.equal(status, 200);
    assert.match(body, /^longline_election_leading\{agent="pair"\} 0$/m);
    assert.match(body, /^longline_election_epoch\{agent="pair"\} 1$/m);
    assert.match(body, /^longline_health_status\{check="election",state="ok"\} 1$/m);
    assert.match(body, /^longline_ready 1$/m);
    assert.match(body, /^process_cpu_seconds_total /m);
    assert.doesNotMatch(body, /^longline_link_/m, 'it has no link');
    const checked = promtool('check', 'metrics', { input: body });
    assert.equal(checked.code, 0, checked.output);
    assert.match((await first.get('/metrics')).body, /^longline_election_leading\{agent="pair"\} 1$/m);
  });

  test('answers on its socket: health, and which lines it logs', async () => {
    const shown = await fleet.longline('status', '--socket', second.socket, '--health');
    assert.equal(shown.code, 0, shown.stderr);
    assert.match(shown.stdout.toString(), /^ok, ready for work\n(.*\n)*.*election +stands by for .* leads, epoch 1/);
    const level = await fleet.longline(
      'agent',
      'log-level',
      'debug',
      '--part',
      'http',
      '--socket',
      second.socket,
      '--json',
    );
    assert.deepEqual([level.code, level.json()], [0, { level: 'info', parts: { http: 'debug' } }]);
    const commands = await fleet.longline('network', 'show', '--socket', second.socket);
    assert.notEqual(commands.code, 0);
    assert.match(commands.stderr, /this replica stands by; ask the leader, /);
  });

  test('takes over without a moment in which nobody answers, and its socket is asked all the while', async () => {
    const seen = { heard: 0, leading: new Set<string>(), wrong: [] as string[] };
    let over = false;
    const polling = (async () => {
      while (!over) {
        const [health, figures] = await Promise.all([second.get('/healthz'), second.get('/metrics')]).catch((error) => {
          seen.wrong.push(String(error));
          return [];
        });
        if (health === undefined || figures === undefined) continue;
        seen.heard += 1;
        const leading = /^longline_election_leading\{agent="pair"\} (.)$/m.exec(figures.body)?.[1];
        if (health.status !== 200) seen.wrong.push(health.body);
        if (figures.status !== 200 || leading === undefined) seen.wrong.push(figures.body);
        else seen.leading.add(leading);
      }
    })();
    try {
      await first.agent.kill9();
      await second.leads();
    } finally {
      over = true;
      await polling;
    }
    assert.deepEqual(seen.wrong, []);
    assert.deepEqual([...seen.leading], ['0', '1']);
    assert.deepEqual((await second.get('/readyz')).json(), { ready: true, role: 'leader' });
    const figures = (await second.get('/metrics')).body;
    assert.match(figures, /^longline_link_state\{state="open"\} 1$/m);
    assert.match(figures, /^longline_election_terms_won_total\{agent="pair"\} 1$/m);
    const status = await fleet.longline('status', '--socket', second.socket, '--json');
    assert.equal(status.json<{ leadership: { role: string } }>().leadership.role, 'leader');
    // What was asked for while it stood by still holds.
    const level = await fleet.longline('agent', 'log-level', 'info', '--socket', second.socket, '--json');
    assert.deepEqual(level.json<{ parts: object }>().parts, { http: 'debug' });
    first.agent.start();
  });

  test('stands by again in the same process when it loses the lock, and says what keeps it from leading', async () => {
    const lock = join(fleet.folder, 'pair.lock');
    await rm(lock);
    await mkdir(lock);
    const failed = await second.until('no lock can be had', '/healthz', ({ status }) => status === 503);
    const health = failed.json<Health>();
    assert.deepEqual([health.status, health.role], ['failed', 'standby']);
    const { state, reason, mend } = electionOf(health);
    assert.equal(state, 'failed');
    assert.match(reason, /^stands by for .*; for .* the lock can't be asked: lock file .*pair\.lock can't be used: /);
    assert.match(mend, /ha\.lock_file/);
    const ready = await second.get('/readyz');
    assert.equal(ready.status, 503);
    assert.match(ready.json<{ reason: string }>().reason, /^this replica can't take over: lock file /);
    assert.equal((await second.get('/livez')).status, 200, 'a restart would not help');
    const figures = (await second.get('/metrics')).body;
    assert.match(figures, /^longline_health_status\{check="election",state="failed"\} 1$/m);
    assert.match(figures, /^longline_election_terms_ended_total\{agent="pair",reason="taken"\} 1$/m);
    assert.match(figures, /^longline_election_lock_errors_total\{agent="pair",reason="unavailable"\} [1-9]/m);
    assert.doesNotMatch(figures, /^longline_link_/m);
    await rmdir(lock);
    await fleet.until('one leads again', async () => {
      const answers = await Promise.all([first, second].map((one) => one.get('/leader').catch(() => undefined)));
      return answers.some((answer) => answer?.status === 200) ? true : undefined;
    });
    for (const replica of [first, second]) {
      const well = await replica.until('well again', '/healthz', ({ body }) => /"election","state":"ok"/.test(body));
      assert.equal(well.status, 200);
    }
  });

  test('leaves a port that all replicas of the host name to the one that leads', async () => {
    const port = await freePort();
    const replicas = ['x', 'y'].map((name) => new Replica(fleet, 'same', name, ['--http-port', String(port)]));
    const token = await fleet.token();
    // The port is whoever's comes first; then the leader's.
    for (const { agent } of replicas) agent.start(['--token', token]);
    const atPort = async () =>
      await fleet.until(
        'the leader has the port',
        async () => {
          const answer = await get({ port }, '/leader').catch(() => undefined);
          return answer?.status === 200 ? answer : undefined;
        },
        () => replicas.map(({ agent }) => agent.command.stderr).join('\n---\n'),
      );
    await atPort();
    const [leads] = await Promise.all(
      replicas.map(async (one) => ((await one.get('/leader')).status === 200 ? one : undefined)),
    ).then((found) => found.filter((one) => one !== undefined));
    await leads!.agent.kill9();
    await atPort();
  });
});
