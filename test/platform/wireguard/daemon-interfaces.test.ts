// Life of an interface on macOS and Windows: the order of things on a system that is made up, and the exact commands of each.
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { InterfaceRequest } from '../../../src/capabilities/network/ports.ts';
import type { CommandResult, RunCommand } from '../../../src/core/command.ts';
import { DaemonInterfaces, type DaemonSystem } from '../../../src/platform/wireguard/daemon-interfaces.ts';
import type { ProcessIdentity } from '../../../src/platform/wireguard/daemon-process.ts';
import type { DetachedProgram } from '../../../src/platform/wireguard/host-processes.ts';
import { MacosDaemons } from '../../../src/platform/wireguard/macos-daemons.ts';
import { WindowsDaemons } from '../../../src/platform/wireguard/windows-daemons.ts';
import { MemoryState } from '../../capabilities/jobs/jobs-fixture.ts';
import { FakeWireguard } from '../../fixtures/fake-wireguard.ts';

const asked = (more: Partial<InterfaceRequest> = {}): InterfaceRequest => {
  return { name: 'wg0', backend: 'auto', mtu: 1420, fwmark: 0, listenPort: undefined, adoptForeign: false, ...more };
};

/** A system on which each daemon is a fake one. It calls interfaces utun7 and on. */
class FakeSystem implements DaemonSystem {
  readonly did: string[] = [];
  readonly #folder: string;
  readonly #running = new Map<number, FakeWireguard>();
  readonly #names = new Map<string, string>();
  #count = 7;

  constructor(folder: string) {
    this.#folder = folder;
  }

  missing = async () => undefined;
  realName = async (name: string) => this.#names.get(name);
  uapiPath = (realName: string) => join(this.#folder, `${realName}.sock`);
  isRunning = async ({ pid }: ProcessIdentity) => this.#running.has(pid);

  async start(name: string): Promise<ProcessIdentity> {
    this.did.push('start');
    const pid = this.#count++;
    this.#running.set(pid, await FakeWireguard.listen(this.uapiPath(`utun${pid}`), 'wireguard-go'));
    this.#names.set(name, `utun${pid}`);
    return { pid, startTicks: 'now', bootId: '' };
  }

  async end({ pid }: { readonly pid: number }): Promise<void> {
    if (!this.#running.has(pid)) return;
    this.did.push('end');
    await this.#running.get(pid)?.close();
    this.#running.delete(pid);
  }

  /** Ends all that a test left. */
  async close(): Promise<void> {
    for (const daemon of this.#running.values()) await daemon.close();
    this.#running.clear();
  }

  async endUnrecorded(name: string): Promise<void> {
    this.did.push('end unrecorded');
    await this.end({ pid: Number(this.#names.get(name)?.slice(4)) });
  }
}

describe('an interface whose daemon opens its own device', () => {
  let folder: string;
  let system: FakeSystem;
  let state: MemoryState;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-wg-'));
  });
  after(async () => await rm(folder, { recursive: true }));
  beforeEach(() => {
    system = new FakeSystem(folder);
    state = new MemoryState();
  });
  afterEach(async () => await system.close());
  const interfaces = () => new DaemonInterfaces({ system, state });

  it('has the name that the system gives it, is adopted, noticed to be lost, made anew and removed', async () => {
    const opened = await interfaces().open(asked());
    assert.partialDeepStrictEqual(opened, { adopted: false, name: 'wg0', realName: 'utun7', kind: 'wireguard-go' });
    assert.equal((await opened.device.read()).peers.size, 0);
    assert.equal((await interfaces().open(asked())).adopted, true);
    const lost = opened.lost(AbortSignal.timeout(20_000));
    await system.end({ pid: 7 });
    assert.match(await lost, /utun7\.sock any more/);
    assert.equal((await interfaces().open(asked())).realName, 'utun8');
    await interfaces().remove('wg0');
    assert.deepEqual(system.did, ['start', 'end', 'start', 'end']);
    assert.deepEqual(await interfaces().list(), []);
    await assert.rejects(interfaces().open(asked({ backend: 'kernel' })), { reason: 'unsupported' });
  });

  it('is found again after a kill between the start of its daemon and the record of that', async () => {
    let isDead = false;
    const put = state.put.bind(state);
    state.put = async (key, value) => {
      isDead ||= state.values.size > 0;
      if (isDead) throw new Error('killed');
      await put(key, value);
    };
    const dead = async () => {
      throw new Error('killed');
    };
    Object.assign(state, { delete: dead });
    Object.assign(system, { end: dead });
    await assert.rejects(interfaces().open(asked()), /killed/);
    for (const name of ['put', 'delete'] as const) Reflect.deleteProperty(state, name);
    Reflect.deleteProperty(system, 'end');
    assert.equal((await interfaces().open(asked())).realName, 'utun8');
    assert.deepEqual(system.did, ['start', 'end unrecorded', 'end', 'start']);
    await interfaces().remove('wg0');
  });

  it('is somebody else’s where one listens that no record tells of', async () => {
    await using other = await FakeWireguard.listen(system.uapiPath('wg0'), 'wireguard-go').then((fake) => ({
      [Symbol.asyncDispose]: async () => await fake.close(),
    }));
    assert.ok(other);
    await assert.rejects(interfaces().open(asked()), { reason: 'already_exists', message: /adopt_interface/ });
    const opened = await interfaces().open(asked({ adoptForeign: true }));
    assert.partialDeepStrictEqual(opened, { adopted: true, foreign: true });
    await interfaces().remove('wg0');
    assert.deepEqual(system.did, []);
  });

  it('leaves nothing if its daemon ends at once, and says so', async () => {
    system.start = async () => ({ pid: 1, startTicks: '', bootId: '' });
    await assert.rejects(interfaces().open(asked()), { reason: 'unavailable', message: /did not start: it ended/ });
    assert.deepEqual(await interfaces().list(), []);
  });
});

/** Answers commands from a table, and records them. */
function recorder(answers: Readonly<Record<string, Partial<CommandResult>[]>>) {
  const commands: string[] = [];
  const programs: DetachedProgram[] = [];
  const ended: number[] = [];
  const run: RunCommand = async ({ argv }) => {
    commands.push(argv.join(' '));
    const answer = answers[argv[0]]?.shift();
    if (answer === undefined) throw new Error(`not expected: ${argv.join(' ')}`);
    return { code: 0, stdout: '', stderr: '', ...answer };
  };
  const processes = {
    spawn: async (program: DetachedProgram) => {
      programs.push(program);
      return 4711;
    },
    end: (pid: number) => void ended.push(pid),
  };
  return { commands, ended, processes, programs, run };
}

describe('wireguard-go on macOS', () => {
  it('is started for any utun, and writes its name where only we look', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'longline-wg-'));
    t.after(async () => await rm(folder, { recursive: true }));
    const began = { stdout: 'Mon Nov 30 03:12:10 2026\n' };
    const host = recorder({ ps: [began, began, { stdout: 'Tue Dec  1 09:00:00 2026\n' }, began, { code: 1 }] });
    const daemons = new MacosDaemons({ ...host, folder, folders: [folder] });
    assert.match((await daemons.missing())!, /brew install wireguard-go/);
    await writeFile(join(folder, 'wireguard-go'), '');
    await chmod(join(folder, 'wireguard-go'), 0o755);
    assert.equal(await daemons.missing(), undefined);
    const nameFile = join(folder, 'wg0.utun');
    await writeFile(nameFile, 'utun3\n');
    const daemon = await daemons.start('wg0');
    assert.equal(await daemons.realName('wg0'), undefined, 'the name of an earlier daemon is gone');
    assert.deepEqual(host.programs, [
      {
        argv: [join(folder, 'wireguard-go'), '-f', 'utun'],
        environment: { LOG_LEVEL: 'error', WG_TUN_NAME_FILE: nameFile },
      },
    ]);
    await writeFile(nameFile, 'utun9\n');
    assert.equal(await daemons.realName('wg0'), 'utun9');
    assert.equal(daemons.uapiPath('utun9'), '/var/run/wireguard/utun9.sock');
    assert.equal(await daemons.isRunning(daemon), true);
    assert.equal(await daemons.isRunning(daemon), false, 'the pid is another process’s by now');
    await daemons.end(daemon);
    assert.deepEqual(host.ended, [4711]);
    assert.deepEqual(new Set(host.commands), new Set(['ps -o lstart= -p 4711']));
    assert.equal(await readFile(nameFile, 'utf8'), 'utun9\n');
  });
});

describe('wireguard-go on Windows', () => {
  it('is started by name, known by its creation, and ended by number', async () => {
    const created = { stdout: '134091234567890123\r\n' };
    const host = recorder({
      powershell: [created, created, created, { stdout: '' }, { stdout: '12\r\n' }, { code: 1, stderr: 'denied' }],
      taskkill: [{}, {}],
    });
    const present = new Set<string>();
    const daemons = new WindowsDaemons({ ...host, exists: (path) => present.has(path) });
    assert.match((await daemons.missing())!, /wireguard-go\.exe and wintun\.dll/);
    for (const file of ['wireguard-go.exe', 'wintun.dll']) present.add(`C:\\Program Files\\Longline\\${file}`);
    assert.equal(await daemons.missing(), undefined);
    const daemon = await daemons.start('wg_0');
    assert.deepEqual(host.programs, [
      { argv: ['C:\\Program Files\\Longline\\wireguard-go.exe', 'wg_0'], environment: {} },
    ]);
    assert.equal(await daemons.realName('wg_0'), 'wg_0');
    assert.equal(daemons.uapiPath('wg_0'), '\\\\.\\pipe\\ProtectedPrefix\\Administrators\\WireGuard\\wg_0');
    assert.equal(await daemons.isRunning(daemon), true);
    await daemons.end(daemon);
    await daemons.endUnrecorded('wg_0');
    await assert.rejects(daemons.isRunning(daemon), { reason: 'unavailable', message: /denied/ });
    const query = (condition: string, property: string) =>
      `powershell -NoProfile -NonInteractive -Command Get-CimInstance Win32_Process -Filter "Name = 'wireguard-go.exe' AND ${condition}" | ForEach-Object { $_.${property} }`;
    const creation = query('ProcessId = 4711', 'CreationDate.ToFileTimeUtc()');
    assert.deepEqual(host.commands, [
      creation,
      creation,
      creation,
      'taskkill /F /PID 4711',
      creation,
      query("CommandLine LIKE '%wireguard-go.exe% wg[_]0'", 'ProcessId'),
      'taskkill /F /PID 12',
      creation,
    ]);
  });
});
