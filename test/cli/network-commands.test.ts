import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampNow } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  type JoinMeshRequest,
  type ListNetworksRequest,
  MeshSchema,
  MeshTopology,
  NetworkSchema,
  type PutMeshRequest,
  type PutNetworkRequest,
  RotationSchema,
  RotationStep,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { NetworkState } from '#gen/longline/v1/network_pb.js';
import { runCli, type Script, startFleet } from './fixtures.ts';

type Cli = (...argv: string[]) => ReturnType<typeof runCli>;

const KEY = Buffer.alloc(32, 7).toString('base64');
const FILE = `
[network.default]
enable_wireguard = true
interface = "wg0"
addresses = ["10.42.0.1/16"]
[[network.default.peers]]
name = "b"
public_key = "${KEY}"
allowed_ips = ["10.42.0.2"]
[network.old]
interface = "wg1"
`;

async function withFleet(networks: Script['networks'], work: (cli: Cli, file: string) => Promise<void>, text = FILE) {
  await using fleet = await startFleet({ networks: networks ?? {} });
  const file = join(fleet.folder, 'file.toml');
  await writeFile(file, text);
  await work((...argv) => runCli(['network', ...argv], { env: { LONGLINE_CONTEXT: fleet.contextPath } }), file);
}

function network(patch: MessageInitShape<typeof NetworkSchema> = {}) {
  const spec = { name: 'default', interface: 'wg0', addresses: ['10.42.0.1/16'] };
  const defaults: MessageInitShape<typeof NetworkSchema> = { agentId: 'a', spec, updateTime: timestampNow() };
  return create(NetworkSchema, Object.assign(defaults, patch));
}

const UP = { state: NetworkState.UP, name: 'default', interface: 'wg0', counts: { active: 1, idle: 2 } };

function mesh(ready: boolean, patch: MessageInitShape<typeof MeshSchema> = {}) {
  const members = ['a', 'b'].map((agentId) => ({
    member: { agentId, address: '10.100.0.1', endpoint: `${agentId}:51820` },
    publicKey: ready ? KEY : '',
    applied: ready,
  }));
  const defaults: MessageInitShape<typeof MeshSchema> = { spec: { name: 'office', pool: '10.100.0.0/16' }, members };
  return create(MeshSchema, Object.assign(defaults, patch));
}

test('network apply: the file of `network up`, to the fields of the contract; what is not enabled goes', async () => {
  const asked: PutNetworkRequest[] = [];
  const deleted: string[] = [];
  const script: Script['networks'] = {
    putNetwork: (request) => {
      asked.push(request);
      const warnings = [{ field: 'peers[0].allowed_ips', message: 'odd', harmless: true }];
      return { network: network(), changed: true, warnings };
    },
    listNetworks: ({ filter }) => ({ networks: filter?.name === 'old' && deleted.length === 0 ? [network()] : [] }),
    deleteNetwork: ({ agentId, name }) => {
      deleted.push(`${agentId}/${name}`);
      return { network: network({ removing: true }) };
    },
  };
  await withFleet(script, async (cli, file) => {
    const { code, err, out } = await cli('apply', '--agent', 'a', '--file', file);
    assert.equal(code, 0, err);
    assert.equal(out, 'a default: changed (waiting)\na old: removed (removing)\n');
    assert.match(err, /^warning: default: peers\[0\]\.allowed_ips: odd$/m);
    const { agentId, spec, validateOnly } = asked[0]!;
    assert.deepEqual([agentId, spec!.interface, spec!.mtu, validateOnly], ['a', 'wg0', 1420, false]);
    assert.deepEqual(
      spec!.peers.map(({ allowedIps, name }) => [name, allowedIps]),
      [['b', ['10.42.0.2/32']]],
    );
    assert.deepEqual(deleted, ['a/old']);
    const dry = await cli('apply', '--agent', 'a', '--file', file, '--dry-run', '--network', 'default', '--json');
    assert.equal(asked[1]!.validateOnly, true);
    const { dry_run, networks } = dry.json() as { dry_run: boolean; networks: { outcome: string }[] };
    assert.deepEqual([dry_run, networks.map(({ outcome }) => outcome)], [true, ['changed']]);
    assert.equal((await cli('apply', '--agent', 'a', '--file', file, '--network', 'x')).code, 2);
    assert.equal((await cli('apply', '--agent', 'a', '--file', `${file}.none`)).code, 2);
  });
});

test('network apply: wrong files are told by path and line, and reach no controller', async () => {
  const text = '[network.default]\nenable_wireguard = true\ninterface = "wg0"\nmtu = 5\nodd = 1\n';
  await withFleet(
    {},
    async (cli, file) => {
      const { code, err } = await cli('apply', '--agent', 'a', '--file', file);
      assert.equal(code, 2);
      assert.match(err, /network\.default\.mtu: .*line 4/);
      assert.match(err, /network\.default\.odd: unknown key/);
    },
    text,
  );
});

test('network apply --wait: until the agent has brought it about, refuses it, or the limit has passed', async () => {
  let looks = 0;
  let answer = () => network({ applied: looks > 1, ...(looks > 1 ? { status: UP } : {}) });
  const script: Script['networks'] = {
    putNetwork: () => ({ network: network(), changed: true }),
    listNetworks: () => {
      looks++;
      return { networks: [answer()] };
    },
  };
  await withFleet(script, async (cli, file) => {
    const wait = (...more: string[]) =>
      cli('apply', '--agent', 'a', '--file', file, '--network', 'default', '--wait', ...more);
    const done = await wait();
    assert.equal(done.out, 'a default: changed (up)\n', done.err);
    assert.ok(looks >= 2);
    const error = { reason: ErrorReason.UNSUPPORTED, message: 'no WireGuard' };
    answer = () => network({ error });
    const refused = await wait();
    assert.equal(refused.code, 1);
    assert.match(refused.err, /agent a refused network default: no WireGuard/);
    answer = () => network();
    const late = await wait('--limit', '1ms');
    assert.equal(late.code, 124);
    assert.match(late.err, /network default of agent a is waiting after 1ms; it goes on/);
    const problems = [{ field: 'interface', message: 'taken' }];
    answer = () => network({ applied: true, status: { ...UP, state: NetworkState.FAILED, problems } });
    const failed = await wait();
    assert.deepEqual([failed.code, failed.out], [1, 'a default: changed (failed)\n']);
    assert.match(failed.err, /problem: default: interface: taken/);
  });
});

test('network ls and rm', async () => {
  const asked: ListNetworksRequest[] = [];
  const script: Script['networks'] = {
    listNetworks: (request) => {
      asked.push(request);
      if (request.filter?.name === 'gone') return {};
      return { networks: [network({ applied: true, status: UP, mesh: 'office' })] };
    },
    deleteNetwork: ({ name }) => {
      if (name === 'none') throw new ConnectError('agent a has no network none', Code.NotFound);
      return { network: network({ removing: true }) };
    },
  };
  await withFleet(script, async (cli) => {
    const { out } = await cli('ls', '--mesh', 'office');
    assert.match(out, /^AGENT +NETWORK +STATE +INTERFACE +ADDRESSES +PEERS +MESH +CHANGED$/m);
    assert.match(out, /^a +default +up +wg0 +10\.42\.0\.1\/16 +1 of 3 +office /m);
    assert.deepEqual([asked[0]!.filter!.mesh, asked[0]!.withoutPeers], ['office', true]);
    const [view] = (await cli('ls', '--json')).json() as [{ applied: boolean; spec: { interface: string } }];
    assert.deepEqual([view.applied, view.spec.interface], [true, 'wg0']);
    assert.equal((await cli('rm', '--agent', 'a', 'gone', '--wait')).out, 'gone of a removed\n');
    assert.equal((await cli('rm', '--agent', 'a', 'none')).code, 3);
  });
});

test('network show --agent: what is wanted of an agent and what it says', async () => {
  const peers = [{ name: 'b', publicKey: KEY, allowedIps: ['10.42.0.2/32'], endpoint: 'b:1', receivedBytes: 2048n }];
  const told = { status: { ...UP, peers }, statusTime: timestampNow() };
  const script: Script['networks'] = {
    getNetwork: ({ name }) => ({ network: name === 'default' ? network({ applied: true, ...told }) : network() }),
    listNetworks: () => ({ networks: [network({ mesh: 'office' })] }),
  };
  await withFleet(script, async (cli) => {
    const { err, out } = await cli('show', 'default', '--agent', 'a');
    assert.match(out, /^agent a, generation 0: up; told .* ago$/m, err);
    assert.match(out, /^network default {2}up$/m);
    assert.match(out, /^ {2}b {2}\S+= /m);
    assert.match(out, /2\.00 KiB received/);
    const waiting = (await cli('show', '--agent', 'a')).out;
    assert.match(waiting, /: waiting; told nothing yet\npart of mesh office\nnetwork default\n {2}interface {4}wg0$/m);
    const [view] = (await cli('show', '--agent', 'a', '--json')).json() as [{ agent_id: string; status: unknown }];
    assert.deepEqual([view.agent_id, view.status], ['a', null]);
    assert.equal((await cli('show', '--agent', 'a', '--socket', '/x')).code, 2);
  });
});

test('network mesh: from options and files, members in and out, waiting until all are ready', async () => {
  const puts: PutMeshRequest[] = [];
  const joins: JoinMeshRequest[] = [];
  let there = false;
  let leaving = false;
  let looks = 0;
  const script: Script['networks'] = {
    putMesh: (request) => {
      puts.push(request);
      there = !request.validateOnly;
      return { mesh: mesh(false, { warnings: ['odd'] }), changed: true };
    },
    getMesh: ({ name }) => {
      if (leaving && looks++ > 1) there = false;
      if (!there) throw new ConnectError(`no mesh has name ${name}`, Code.NotFound);
      return { mesh: mesh(looks++ > 0) };
    },
    // As a controller does that has more meshes than one answer holds.
    listMeshes: () => (leaving ? { nextPageToken: 'next' } : { meshes: there ? [mesh(true)] : [] }),
    joinMesh: (request) => {
      joins.push(request);
      return { mesh: mesh(true) };
    },
    leaveMesh: () => ({ mesh: mesh(true) }),
    deleteMesh: () => {
      looks = 0;
      leaving = true;
      return { mesh: mesh(false, { removing: true }) };
    },
  };
  const text =
    'name = "office"\npool = "10.100.0.0/16"\nrotate_every = "720h"\n[[members]]\nagent_id = "a"\nhub = true\n';
  const work = async (cli: Cli, file: string) => {
    assert.equal((await cli('mesh', 'get', 'office')).code, 3);
    const options = ['--pool', '10.100.0.0/16', '--topology', 'hub', '--hub', 'a=a.example', '--member', 'b', '--wait'];
    const created = await cli('mesh', 'create', 'office', ...options);
    assert.equal(created.out, 'office changed, all members ready\n', created.err);
    const { members, topology } = puts[0]!.spec!;
    assert.equal(topology, MeshTopology.HUB);
    const shown = members.map(({ agentId, endpoint, hub }) => [agentId, endpoint, hub]);
    assert.deepEqual(shown, [
      ['a', 'a.example', true],
      ['b', '', false],
    ]);
    assert.equal((await cli('mesh', 'create', 'office', '--pool', 'x')).code, 1, 'it is there');
    const dry = await cli('mesh', 'put', '--file', file, '--dry-run');
    assert.deepEqual([dry.out, dry.err], ['office would be changed\n', 'warning: odd\n']);
    assert.deepEqual([puts[1]!.validateOnly, puts[1]!.spec!.rotateEvery!.seconds], [true, 2_592_000n]);
    there = true;
    assert.match((await cli('mesh', 'get', 'office')).out, /^mesh office, full\n {2}pool 10\.100\.0\.0\/16/);
    assert.match((await cli('mesh', 'ls')).out, /^office +full +10\.100\.0\.0\/16 +2 +2 +up /m);
    await cli('mesh', 'join', 'office', '--agent', 'c', '--route', '10.9.0.0/24', '--nat');
    const { member } = joins[0]!;
    assert.deepEqual([member!.agentId, member!.routes, member!.nat, member!.hub], ['c', ['10.9.0.0/24'], true, false]);
    assert.equal((await cli('mesh', 'leave', 'office', '--agent', 'b')).out, 'office lets b go\n');
    assert.equal((await cli('mesh', 'rm', 'office', '--wait')).out, 'office removed\n');
    assert.equal(there, false, 'it was waited for');
  };
  await withFleet(script, work, text);
});

test('network rotate-key and rotations', async () => {
  const id = '01890000-0000-7000-8000-000000000001';
  const rotation = (step: RotationStep, waitingFor: string[] = [], undoing = false) =>
    create(RotationSchema, { id, mesh: 'office', agentId: 'a', step, waitingFor, undoing, startTime: timestampNow() });
  let step = RotationStep.PREPARE;
  const script: Script['networks'] = {
    rotateKey: ({ agentId, mesh: name }) => {
      assert.deepEqual([name, agentId], ['office', 'a']);
      return { rotations: [rotation(RotationStep.UNSPECIFIED)] };
    },
    undoRotation: () => ({ rotation: rotation(RotationStep.STAGE, ['b'], true) }),
    listRotations: ({ active }) => {
      if (active && step !== RotationStep.DONE) {
        step = RotationStep.DONE;
        return { rotations: [rotation(RotationStep.STAGE, ['b'])] };
      }
      return { rotations: active ? [] : [rotation(RotationStep.DONE)] };
    },
  };
  await withFleet(script, async (cli) => {
    assert.equal((await cli('rotate-key', '--mesh', 'office', '--agent', 'a')).out, `${id} a: queued\n`);
    assert.equal((await cli('rotate-key', '--mesh', 'office', '--agent', 'a', '--wait')).out, `${id} a: done\n`);
    step = RotationStep.STAGE;
    const late = await cli('rotate-key', '--mesh', 'office', '--agent', 'a', '--wait', '--limit', '0s');
    assert.equal(late.code, 124);
    assert.match(late.err, /the key of a is at step stage, waiting for b after/);
    assert.equal((await cli('rotate-key', '--undo', id)).out, `${id} a: stage, waiting for b\n`);
    assert.equal((await cli('rotate-key')).code, 2);
    step = RotationStep.STAGE;
    assert.match((await cli('rotations', '--active')).out, /office +a +stage +.* ago +- +b$/m);
  });
});
