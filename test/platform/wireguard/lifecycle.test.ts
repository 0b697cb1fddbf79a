// Interfaces on a real wireguard-go, made by processes that are killed, in namespaces of the test's own.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SecretKey } from '../../../src/core/wireguard-keys.ts';
import { uapiPath } from '../../../src/platform/wireguard/uapi-device.ts';
import { type LabHost, NetworkLab, wireguardMissing } from '../../fixtures/netns.ts';
import { WireguardDaemon } from '../../fixtures/wireguard-daemon.ts';
import { InterfaceAgent } from './interface-agent.ts';

const LIMIT_MS = 30_000;
const KEY = SecretKey.parse(Buffer.alloc(32, 9).toString('base64'))!;

interface Bench {
  readonly folder: string;
  /** An agent on the host; it is ended with the test. */
  agent(dieAt?: number, instance?: string): InterfaceAgent;
}

async function benchOn(t: TestContext, host: LabHost): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), 'longline-wg-'));
  const agents: InterfaceAgent[] = [];
  t.after(async () => {
    for (const agent of agents) await agent[Symbol.asyncDispose]();
    await using last = new InterfaceAgent(host, { folder });
    await last.call({ kind: 'remove', name: host.tunnel });
    await rm(folder, { recursive: true });
  });
  return {
    folder,
    agent: (dieAt = 0, instance = 'one') => {
      const agent = new InterfaceAgent(host, { folder, dieAt, instance });
      agents.push(agent);
      return agent;
    },
  };
}

async function eventually<Value>(
  look: () => Promise<Value | undefined | false>,
  standing: () => Promise<string> = async () => '',
): Promise<Value> {
  const endsAt = performance.now() + LIMIT_MS;
  for (;;) {
    const value = await look();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > endsAt) throw new Error(`it did not come about in time ${await standing()}`);
    await delay(20);
  }
}

/** Command lines, by pid, of processes on the host that are daemons or are to become one. */
async function daemonsOf(host: LabHost): Promise<ReadonlyMap<number, string>> {
  const daemons = new Map<number, string>();
  for (const pid of (await host.run('ip', 'netns', 'pids', host.namespace)).split('\n').filter(Boolean).map(Number)) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
    if (/wireguard-go|boringtun|daemon-launcher/.test(line)) daemons.set(pid, line);
  }
  return daemons;
}

async function hasLink(host: LabHost): Promise<boolean> {
  return (await host.ip('-o', 'link')).includes(` ${host.tunnel}:`);
}

/** Resolves once there is neither a daemon nor link or socket of it; fails with what is left. */
async function noneStays(host: LabHost): Promise<void> {
  const none = async () => {
    const gone = (await daemonsOf(host)).size === 0;
    return gone && !(await hasLink(host)) && !existsSync(uapiPath(host.tunnel));
  };
  await eventually(none, async () => {
    const daemons = await Promise.all(
      [...(await daemonsOf(host))].map(async ([pid, line]) => {
        const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
        return `${pid} ${/^State:.*$/m.exec(status)?.[0]} ${line.replaceAll('\0', ' ')}`;
      }),
    );
    return JSON.stringify({ daemons, link: await hasLink(host), socket: existsSync(uapiPath(host.tunnel)) });
  });
}

describe('life of an interface on wireguard-go', { skip: wireguardMissing() ?? false }, () => {
  let lab: NetworkLab;
  let host: LabHost;
  before(async () => {
    lab = await NetworkLab.create(1);
    host = lab.hosts[0]!;
  });
  after(async () => await lab?.[Symbol.asyncDispose]());

  it('is made with a daemon that has no privileges, is adopted as it is, and is removed with all there was', async (t) => {
    const name = host.tunnel;
    const bench = await benchOn(t, host);
    const first = bench.agent();
    assert.partialDeepStrictEqual(await first.open(name), { adopted: false, foreign: false, kind: 'wireguard-go' });
    await first.call({ kind: 'write', name, key: KEY.reveal() });
    assert.match(await host.ip('link', 'show', name), /mtu 1380/);
    const [[pid = 0] = []] = await daemonsOf(host);
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    for (const line of [/^Uid:(\t65527){4}$/m, /^Gid:(\t65527){4}$/m, /^Groups:\t ?$/m, /^NoNewPrivs:\t1$/m]) {
      assert.match(status, line);
    }
    for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb']) assert.match(status, new RegExp(`^Cap${set}:\\t0+$`, 'm'));
    await first.kill();
    const second = bench.agent();
    assert.deepEqual(await second.open(name), {
      adopted: true,
      foreign: false,
      kind: 'wireguard-go',
      realName: name,
      effects: 0,
    });
    assert.equal(await second.call({ kind: 'peers', name }), KEY.publicKey());
    assert.deepEqual([...(await daemonsOf(host)).keys()], [pid]);
    assert.equal((await second.call<unknown[]>({ kind: 'list' })).length, 1);
    await second.call({ kind: 'remove', name });
    await noneStays(host);
    assert.deepEqual(await second.call({ kind: 'list' }), []);
  });

  it('keeps only the privileges that a mark or a low port needs, and gets them when they are needed', async (t) => {
    const name = host.tunnel;
    const agent = (await benchOn(t, host)).agent();
    await agent.open(name);
    await host.ip('link', 'set', name, 'up');
    const more = { fwmark: 7, listenPort: 500 };
    const write = { kind: 'write', name, key: KEY.reveal(), ...more } as const;
    await assert.rejects(agent.call(write), { message: /refused to take a change/ });
    assert.equal((await agent.open(name, more)).adopted, false);
    await agent.call(write);
    const [[pid = 0] = []] = await daemonsOf(host);
    const wanted = ((1n << 12n) | (1n << 10n)).toString(16).padStart(16, '0');
    assert.match(await readFile(`/proc/${pid}/status`, 'utf8'), new RegExp(`CapEff:\\t${wanted}\n`));
    assert.match(await host.ip('link', 'show', name), /mtu 1380/, 'the daemon sets no MTU of its own');
    assert.equal((await agent.open(name, more)).adopted, true);
  });

  it('needs nothing but CAP_NET_ADMIN of an agent, and leaves its daemon nothing of that', async (t) => {
    const name = host.tunnel;
    const { folder } = await benchOn(t, host);
    const confined = ['setpriv', '--bounding-set=-all,+net_admin', '--no-new-privs'];
    await using agent = new InterfaceAgent(host, { folder }, confined);
    assert.equal((await agent.open(name)).adopted, false);
    await agent.call({ kind: 'write', name, key: KEY.reveal() });
    const [[pid = 0] = []] = await daemonsOf(host);
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    for (const set of ['Inh', 'Prm', 'Eff', 'Amb']) assert.match(status, new RegExp(`^Cap${set}:\\t0+$`, 'm'));
    await agent.call({ kind: 'remove', name });
    await noneStays(host);
  });

  it('is noticed to be lost when its daemon is killed, and mended with its link left as it was', async (t) => {
    const name = host.tunnel;
    const agent = (await benchOn(t, host)).agent();
    await agent.open(name);
    await host.ip('addr', 'add', '10.77.0.1/24', 'dev', name);
    const before = await host.ip('-o', 'link', 'show', name);
    const lost = agent.call<string>({ kind: 'lost', name });
    const [[pid = 0] = []] = await daemonsOf(host);
    process.kill(pid, 'SIGKILL');
    assert.match(await lost, new RegExp(`daemon, process ${pid}, has ended`));
    assert.equal((await agent.open(name)).adopted, false);
    const [index] = before.split(':');
    assert.ok((await host.ip('-o', 'link', 'show', name)).startsWith(`${index}:`), 'it is the same link');
    assert.match(await host.ip('addr', 'show', name), /10\.77\.0\.1\/24/);
    assert.equal(await agent.call({ kind: 'peers', name }), null);
    assert.equal((await daemonsOf(host)).size, 1);
  });

  it('is mended when its socket is removed, and when its link is deleted', async (t) => {
    const name = host.tunnel;
    const agent = (await benchOn(t, host)).agent();
    await agent.open(name);
    const removed = agent.call<string>({ kind: 'lost', name });
    await rm(uapiPath(name));
    assert.match(await removed, /has ended|was removed/);
    assert.equal((await agent.open(name)).adopted, false);
    const deleted = agent.call<string>({ kind: 'lost', name });
    await host.ip('link', 'delete', name);
    assert.match(await deleted, /has ended|is gone/);
    assert.equal((await agent.open(name)).adopted, false);
    assert.equal((await daemonsOf(host)).size, 1);
    assert.equal((await agent.open(name)).adopted, true);
  });

  it('is not made where somebody else has the name, which is left as it was', async (t) => {
    const name = host.tunnel;
    const agent = (await benchOn(t, host)).agent();
    await host.ip('link', 'add', name, 'type', 'bridge');
    t.after(async () => await host.ip('link', 'delete', name));
    const before = await host.ip('-o', 'link', 'show', name);
    await assert.rejects(agent.open(name, { adoptForeign: true }), {
      reason: 'already_exists',
      message: new RegExp(`"${name}" is a bridge interface that this agent did not make; choose another name$`),
    });
    await agent.call({ kind: 'remove', name });
    assert.equal(await host.ip('-o', 'link', 'show', name), before);
    assert.deepEqual(await agent.call({ kind: 'list' }), []);
  });

  it('is somebody else’s WireGuard only where that is allowed, and is never taken away', async (t) => {
    const name = host.tunnel;
    const agent = (await benchOn(t, host)).agent();
    await using daemon = await WireguardDaemon.start(host);
    await daemon.device.write({ privateKey: KEY, peers: [] });
    await assert.rejects(agent.open(name), { reason: 'already_exists', message: /allow it to be adopted/ });
    const opened = await agent.open(name, { adoptForeign: true });
    assert.partialDeepStrictEqual(opened, { adopted: true, foreign: true, kind: 'wireguard-go' });
    assert.equal(await agent.call({ kind: 'peers', name }), KEY.publicKey());
    await agent.call({ kind: 'remove', name });
    assert.deepEqual(await agent.call({ kind: 'list' }), []);
    assert.equal((await daemon.device.read()).publicKey, KEY.publicKey());
  });

  it('is another agent’s as long as that one’s label is on it', async (t) => {
    const name = host.tunnel;
    const bench = await benchOn(t, host);
    const folder = await mkdtemp(join(tmpdir(), 'longline-wg-'));
    t.after(async () => await rm(folder, { recursive: true }));
    await bench.agent().open(name);
    await using other = new InterfaceAgent(host, { folder, instance: 'two' });
    await assert.rejects(other.open(name), { reason: 'already_exists', message: /labelled "longline:one"/ });
    assert.equal((await bench.agent().open(name)).adopted, true);
  });

  it('is made anew when the pid on record is somebody else’s by now, who is left alone', async (t) => {
    const name = host.tunnel;
    const bench = await benchOn(t, host);
    const first = bench.agent();
    await first.open(name);
    const [[pid = 0] = []] = await daemonsOf(host);
    process.kill(pid, 'SIGKILL');
    await first[Symbol.asyncDispose]();
    // As if the pid had been given out again: only the start time tells.
    const bystander = host.spawn(['sleep', '600']);
    await once(bystander, 'spawn');
    const second = bench.agent();
    await second.call({ kind: 'set_pid', name, pid: bystander.pid! });
    assert.equal((await second.open(name)).adopted, false);
    assert.equal((await daemonsOf(host)).size, 1);
    assert.ok(existsSync(`/proc/${bystander.pid}`) && bystander.signalCode === null);
    bystander.kill();
  });

  it('is boringtun where that is asked for, which opens all itself and is left nothing but CAP_NET_ADMIN', async (t) => {
    const name = host.tunnel;
    const agent = (await benchOn(t, host)).agent();
    const opened = await agent.open(name, { backend: 'boringtun' });
    assert.partialDeepStrictEqual(opened, { adopted: false, kind: 'boringtun' });
    await agent.call({ kind: 'write', name, key: KEY.reveal() });
    const [[pid = 0] = []] = await daemonsOf(host);
    const netAdmin = (1n << 12n).toString(16).padStart(16, '0');
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    for (const set of ['Prm', 'Eff', 'Bnd']) assert.match(status, new RegExp(`^Cap${set}:\\t${netAdmin}$`, 'm'));
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.equal((await agent.open(name)).kind, 'boringtun', 'it is not given up for another that could be had');
    assert.equal(await agent.call({ kind: 'peers', name }), KEY.publicKey());
    const switched = await agent.open(name, { backend: 'wireguard-go' });
    assert.partialDeepStrictEqual(switched, { adopted: false, kind: 'wireguard-go' });
    assert.equal((await daemonsOf(host)).size, 1);
  });

  it('comes out whole after a kill at any step of its making, mending and removal, with nothing left over', async (t) => {
    const name = host.tunnel;
    const bench = await benchOn(t, host);
    const whileMaking = async (prepare: (agent: InterfaceAgent) => Promise<void>) => {
      await using first = new InterfaceAgent(host, { folder: bench.folder });
      await prepare(first);
      for (let step = 1; ; step++) {
        await using doomed = new InterfaceAgent(host, { folder: bench.folder, dieAt: step });
        const opened = await doomed.open(name).catch((error: Error) => error);
        if (!(opened instanceof Error)) return step;
        assert.match(opened.message, /the agent died/, `step ${step}`);
        await using next = new InterfaceAgent(host, { folder: bench.folder });
        await next.open(name);
        assert.equal((await next.open(name)).adopted, true, `step ${step}`);
        await eventually(async () => (await daemonsOf(host)).size === 1);
        await prepare(next);
      }
    };
    const steps = await whileMaking(async (agent) => {
      await agent.call({ kind: 'remove', name });
      await noneStays(host);
    });
    assert.ok(steps > 8, `${steps} steps`);
    const mending = await whileMaking(async (agent) => {
      await agent.open(name);
      for (const [pid] of await daemonsOf(host)) process.kill(pid, 'SIGKILL');
      await eventually(async () => (await daemonsOf(host)).size === 0);
    });
    assert.ok(mending > 6, `${mending} steps`);
    for (let step = 1; ; step++) {
      await using doomed = new InterfaceAgent(host, { folder: bench.folder, dieAt: step });
      const removed = await doomed.call({ kind: 'remove', name }).catch((error: Error) => error);
      if (!(removed instanceof Error)) break;
      await using next = new InterfaceAgent(host, { folder: bench.folder });
      await next.call({ kind: 'remove', name });
      await noneStays(host);
      await next.open(name);
    }
    await noneStays(host);
  });
});
