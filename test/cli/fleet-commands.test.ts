import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs, timestampNow } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { BadRequestSchema, ErrorInfoSchema } from '#gen/google/rpc/error_details_pb.js';
import type { ListAgentsRequest } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { Role } from '#gen/longline/fleet/v1/token_service_pb.js';
import { AgentSchema, AgentState } from '#gen/longline/v1/agent_pb.js';
import { runCli, type Script, startFleet } from './fixtures.ts';

const agent = (id: string, state = AgentState.ONLINE) =>
  create(AgentSchema, {
    id,
    state,
    labels: { zone: 'eu' },
    seenTime: timestampNow(),
    facts: {
      platform: 'linux/amd64',
      version: '0.1.0',
      capabilities: [{ name: 'jobs', reason: 'no engine', mend: 'start it' }],
    },
    usage: {
      runningJobs: 2,
      maxJobs: 5,
      sessionCapacity: {
        held: 3,
        maxSessions: 10,
        cpusReserved: 2.5,
        maxCpus: 8,
        maxMemoryBytes: 1024n ** 3n,
        running: 2,
        asleep: 1,
      },
    },
  });

async function withFleet(
  script: Script,
  work: (cli: (...argv: string[]) => ReturnType<typeof runCli>) => Promise<void>,
) {
  await using fleet = await startFleet(script);
  await work((...argv) => runCli(argv, { env: { LONGLINE_CONTEXT: fleet.contextPath } }));
}

test('agents ls: pages to the end, passes the selector, one array or a table', async () => {
  const requests: ListAgentsRequest[] = [];
  const listAgents = (request: ListAgentsRequest) => {
    requests.push(request);
    return request.pageToken === '' ? { agents: [agent('a')], nextPageToken: 'p2' } : { agents: [agent('b')] };
  };
  await withFleet({ agents: { listAgents } }, async (cli) => {
    const json = await cli('agents', 'ls', '--selector', 'zone=eu,gpu', '--state', 'online', '--json');
    assert.deepEqual(
      (json.json() as { id: string }[]).map((one) => one.id),
      ['a', 'b'],
    );
    assert.equal(json.out.split('\n').length, 2);
    assert.deepEqual([requests[0]!.selector?.matchLabels['zone'], requests[0]!.selector?.hasLabels], ['eu', ['gpu']]);
    assert.deepEqual(requests[0]!.states, [AgentState.ONLINE]);
    const table = await cli('agents', 'ls');
    assert.match(table.out, /^AGENT +STATE +JOBS.*\na +online +2\/5 +3\/10 +linux\/amd64/);
    assert.ok(!table.out.includes('\u001b'));
    assert.equal(((await cli('agents', 'ls', '--limit', '1', '--json')).json() as []).length, 1);
  });
});

test('agents ls without agents: an empty array, or a note that says what to do', async () => {
  await withFleet({ agents: { listAgents: () => ({ agents: [] }) } }, async (cli) => {
    assert.deepEqual((await cli('agents', 'ls', '--json')).json(), []);
    const table = await cli('agents', 'ls');
    assert.equal(table.out, '');
    assert.match(table.err, /token create/);
  });
});

test('agents events: oldest first as array or lines, and followed one object a line', async () => {
  const event = (number: bigint) => ({
    number,
    agentId: 'a',
    event: { type: 'engine.lost', message: `m${number}\u001b[31m`, attributes: { engine: 'docker' } },
  });
  const asked: unknown[] = [];
  const script: Script = {
    agents: {
      listEvents: ({ agentId, pageSize }) => {
        asked.push([agentId, pageSize]);
        return { events: [event(2n), event(1n)] };
      },
      async *watchEvents({ agentId, backlog }) {
        asked.push([agentId, backlog]);
        yield { event: event(3n) };
      },
    },
  };
  await withFleet(script, async (cli) => {
    const listed = (await cli('agents', 'events', 'a', '--limit', '5', '--json')).json() as { number: number }[];
    assert.deepEqual(
      listed.map(({ number }) => number),
      [1, 2],
    );
    const lines = (await cli('agents', 'events')).out;
    assert.match(lines, /^- +a +engine\.lost +m1.* engine=docker\n- .*m2/);
    assert.ok(!lines.includes('\u001b'));
    const followed = await cli('agents', 'events', '--follow', '--limit', '7', '--json');
    assert.equal((JSON.parse(followed.out) as { type: string }).type, 'engine.lost');
  });
  assert.deepEqual(asked, [
    ['a', 5],
    ['', 100],
    ['', 7],
  ]);
});

const CERTIFICATES = [
  { serial: '1a', instanceId: 'r1', expireTime: timestampFromMs(Date.UTC(2030, 0, 1)) },
  { serial: '2a', instanceId: 'r2', expireTime: timestampFromMs(Date.UTC(2030, 0, 1)) },
  { serial: '1b', instanceId: 'r1', expireTime: timestampFromMs(Date.UTC(2030, 0, 1)) },
];

test('agents get, label, drain, resume, revoke, delete', async () => {
  const calls: unknown[] = [];
  const note = (name: string, ...facts: unknown[]) => {
    calls.push([name, ...facts]);
    return { agent: agent('a') };
  };
  const script: Script = {
    agents: {
      getAgent: ({ agentId }) => ({ ...note('get', agentId), certificates: CERTIFICATES }),
      labelAgent: ({ agentId, set, remove }) => note('label', agentId, { ...set }, remove),
      drainAgent: ({ agentId, resume, reason }) => note('drain', agentId, resume, reason),
      revokeAgent: ({ agentId, reason, instanceId }) => note('revoke', agentId, reason, instanceId),
      deleteAgent: ({ agentId }) => {
        note('delete', agentId);
        return {};
      },
    },
  };
  await withFleet(script, async (cli) => {
    assert.match((await cli('agents', 'get', 'a')).out, /capability jobs +unavailable: no engine; start it/);
    const room = /sessions +3 of 10 places, 2 run, 1 asleep\nfor sessions +2\.5 of 8 cpus, 0B? of 1GiB memory reserved/;
    const text = await cli('agents', 'get', 'a');
    assert.match(text.out, room);
    assert.match(text.out, /replica +r1, certificates 1a \(.*\), 1b \(.*\)\nreplica +r2, certificates 2a \(/);
    const { certificates } = (await cli('agents', 'get', 'a', '--json')).json() as { certificates: unknown[] };
    assert.deepEqual(certificates[2], { serial: '1b', instance_id: 'r1', expires_at: '2030-01-01T00:00:00.000Z' });
    assert.equal(((await cli('agents', 'label', 'a', 'x=1', 'y-', '--json')).json() as { id: string }).id, 'a');
    await cli('agents', 'drain', 'a', '--reason', 'disk');
    await cli('agents', 'resume', 'a');
    await cli('agents', 'revoke', 'a');
    assert.match((await cli('agents', 'revoke', 'a', '--replica', 'r1', '--reason', 'old')).out, /lost its replica r1/);
    const unset = await cli('agents', 'revoke', 'a', '--replica', '');
    assert.equal(unset.code, 2);
    assert.match(unset.err, /--replica: is empty; name a replica, or leave it out to revoke the whole agent/);
    assert.deepEqual((await cli('agents', 'delete', 'a', '--json')).json(), { id: 'a', deleted: true });
    assert.equal((await cli('agents', 'label', 'a', '=x')).code, 2);
  });
  assert.deepEqual(calls, [
    ['get', 'a'],
    ['get', 'a'],
    ['get', 'a'],
    ['label', 'a', { x: '1' }, ['y']],
    ['drain', 'a', false, 'disk'],
    ['drain', 'a', true, ''],
    ['revoke', 'a', '', ''],
    ['revoke', 'a', 'old', 'r1'],
    ['delete', 'a'],
  ]);
});

test('agents watch: one object a line, until the stream ends', async () => {
  const script: Script = {
    agents: {
      async *watchAgents() {
        yield { change: { case: 'agent', value: agent('a') } };
        yield { change: { case: 'synced', value: {} } };
        yield { change: { case: 'removedAgentId', value: 'a' } };
      },
    },
  };
  await withFleet(script, async (cli) => {
    const lines = (await cli('agents', 'watch', '--json')).out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { change: string });
    assert.deepEqual(
      lines.map((line) => line.change),
      ['agent', 'synced', 'removed'],
    );
    assert.equal((await cli('agents', 'watch')).out, 'a  online\na  removed\n');
  });
});

test('token create prints the token alone, or an object with it', async () => {
  const script: Script = {
    tokens: {
      createEnrollmentToken: ({ uses, ttl, labels, agentId }) => {
        assert.deepEqual([uses, ttl?.seconds, { ...labels }, agentId], [3, 7200n, { zone: 'eu' }, 'web-1']);
        return { token: 'lle1.secret.hash', enrollmentToken: { id: 't1', usesLeft: 3, usesTotal: 3 } };
      },
    },
  };
  await withFleet(script, async (cli) => {
    const argv = ['token', 'create', '--uses', '3', '--ttl', '2h', '--label', 'zone=eu', '--agent-id', 'web-1'];
    assert.equal((await cli(...argv)).out, 'lle1.secret.hash\n');
    const json = (await cli(...argv, '--json')).json() as Record<string, unknown>;
    assert.deepEqual([json['token'], json['id'], json['uses_left']], ['lle1.secret.hash', 't1', 3]);
    const unset = await cli('token', 'create', '--agent-id', '');
    assert.equal(unset.code, 2);
    assert.match(unset.err, /--agent-id: is empty; name an agent, or leave it out for a token for any/);
  });
});

test('token ls and revoke, token api create, ls and revoke', async () => {
  const revoked: string[] = [];
  const revoke = (id: string) => {
    revoked.push(id);
    return {};
  };
  const script: Script = {
    tokens: {
      listEnrollmentTokens: () => ({ enrollmentTokens: [{ id: 't1', usesLeft: 1, usesTotal: 2 }] }),
      revokeEnrollmentToken: ({ id }) => revoke(id),
      createApiToken: ({ name, role }) => ({ token: 'lla1.x', apiToken: { id: 'k1', name, role } }),
      listApiTokens: () => ({ apiTokens: [{ id: 'k1', name: 'ci', role: Role.OPERATOR }] }),
      revokeApiToken: ({ id }) => revoke(id),
    },
  };
  await withFleet(script, async (cli) => {
    assert.match((await cli('token', 'ls')).out, /t1 +1\/2/);
    assert.equal(((await cli('token', 'ls', '--json')).json() as { id: string }[])[0]!.id, 't1');
    await cli('token', 'revoke', 't1');
    const made = (await cli('token', 'api', 'create', '--name', 'ci', '--role', 'operator', '--json')).json();
    assert.deepEqual([(made as { role: string }).role, (made as { token: string }).token], ['operator', 'lla1.x']);
    assert.match((await cli('token', 'api', 'ls')).out, /ci +operator +never/);
    await cli('token', 'api', 'revoke', 'k1');
    assert.equal((await cli('token', 'api', 'create')).code, 2);
    assert.equal((await cli('token', 'api', 'create', '--name', 'x', '--role', 'king')).code, 2);
  });
  assert.deepEqual(revoked, ['t1', 'k1']);
});

test('token agent-key prints the key alone, or an object', async () => {
  const script: Script = {
    tokens: { createAgentKey: ({ agentId, labels }) => ({ apiKey: `${agentId}:${labels['zone']}` }) },
  };
  await withFleet(script, async (cli) => {
    assert.equal((await cli('token', 'agent-key', 'web-1', '--label', 'zone=eu')).out, 'web-1:eu\n');
    const json = await cli('token', 'agent-key', 'web-1', '--label', 'zone=eu', '--json');
    assert.deepEqual(json.json(), { agent: 'web-1', api_key: 'web-1:eu' });
  });
});

test('errors: code, violations and rule come through', async () => {
  const failures: [ConnectError, number, RegExp][] = [
    [
      new ConnectError('wrong', Code.InvalidArgument, undefined, [
        { desc: BadRequestSchema, value: { fieldViolations: [{ field: 'page_size', description: 'is -1' }] } },
      ]),
      2,
      /page_size/,
    ],
    [
      new ConnectError('no', Code.PermissionDenied, undefined, [
        { desc: ErrorInfoSchema, value: { reason: 'POLICY', domain: 'longline', metadata: { rule: 'roles' } } },
      ]),
      4,
      /"rule":"roles"/,
    ],
    [new ConnectError('who', Code.Unauthenticated), 4, /"identity"/],
    [new ConnectError('gone', Code.Unavailable), 5, /"unavailable"/],
    [new ConnectError('full', Code.ResourceExhausted), 1, /"limit"/],
    [new ConnectError('slow', Code.DeadlineExceeded), 124, /"late"/],
  ];
  let next = 0;
  const listAgents = () => {
    throw failures[next]![0];
  };
  await withFleet({ agents: { listAgents } }, async (cli) => {
    for (; next < failures.length; next++) {
      const result = await cli('agents', 'ls', '--json');
      assert.equal(result.code, failures[next]![1], result.err);
      assert.match(result.err, failures[next]![2]);
      assert.equal(result.out, '');
    }
  });
});

test('a call that takes too long ends with 124', async () => {
  const never = Promise.withResolvers<never>();
  await withFleet({ agents: { getAgent: () => never.promise } }, async (cli) => {
    const result = await cli('agents', 'get', 'a', '--timeout', '50ms');
    assert.equal(result.code, 124);
  });
});

test('a controller that is not there or not the right one', async () => {
  const fleet = await startFleet({});
  const other = await startFleet({ agents: { listAgents: () => ({}) } });
  await using _other = other;
  await fleet[Symbol.asyncDispose]();
  const context = { url: fleet.url, token: 'lla1.x' };
  const path = join(other.folder, 'other.json');
  await writeFile(path, JSON.stringify(context), { mode: 0o600 });
  const gone = await runCli(['agents', 'ls', '--context', path]);
  assert.equal(gone.code, 5);
  assert.match(gone.err, /can't be reached/);
  await writeFile(path, JSON.stringify({ ...context, url: other.url }));
  const wrong = await runCli(['--context', path, 'agents', 'ls']);
  assert.equal(wrong.code, 4, wrong.err);
  assert.match(wrong.err, /did not prove/);
});

test('context files: absent, open to others, malformed', async () => {
  await using fleet = await startFleet({});
  const missing = await runCli(['agents', 'ls', '--context', join(fleet.folder, 'none')]);
  assert.equal(missing.code, 2);
  assert.match(missing.err, /longline controller --data-dir/);
  await chmod(fleet.contextPath, 0o644);
  const loose = await runCli(['agents', 'ls', '--context', fleet.contextPath]);
  assert.equal(loose.code, 4);
  assert.match(loose.err, /chmod 600/);
  for (const text of ['{', '[]', '{"url":"x","token":"y"}', '{"url":"https://a"}', 'null']) {
    await writeFile(fleet.contextPath, text);
    await chmod(fleet.contextPath, 0o600);
    assert.equal((await runCli(['agents', 'ls', '--context', fleet.contextPath])).code, 2, text);
  }
});

test('unknown commands and options get a suggestion', async () => {
  const command = await runCli(['agnets', 'ls']);
  assert.equal(command.code, 2);
  assert.match(command.err, /did you mean agents\?/i);
  assert.equal((await runCli(['agents', 'ls', '--selectr', 'x'])).code, 2);
  const json = await runCli(['agents', 'lst', '--json']);
  assert.equal((JSON.parse(json.err) as { error: { reason: string } }).error.reason, 'invalid');
});
