// Thousands of enrolled agents for the fleet benches, in a few processes of their own, against a real controller process or
// against the raw HTTP/2 peer. Identities are written into the controller's data directory before it starts: enrolling
// them one by one isn't what is measured.
// @peculiar/x509 wants it loaded before itself.
import 'reflect-metadata';
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { PublicKey } from '@peculiar/x509';
import { ControllerMessageSchema } from '#gen/longline/link/v1/link_pb.js';
import { newKeyPair } from '../../../src/controller/identity/certificates.ts';
import { openControllerIdentity } from '../../../src/controller/identity/controller-identity.ts';
import { DataDirectory } from '../../../src/controller/identity/data-directory.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { newId } from '../../../src/core/ids.ts';
import { RunningCommand } from '../../fixtures/command.ts';
import type { Answers, Attach, Report } from './client-process.ts';
import { LightCounts } from './light-agent.ts';

const DAY_MS = 86_400_000;
/** Light agents in one process. */
const AGENTS_PER_PROCESS = 3400;
const FIRST_ATTACH_AT_ONCE = 8;
/** As deploy/bin/longline sets it for the controller. */
const MALLOC = { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '131072', MALLOC_MMAP_THRESHOLD_: '131072' } as const;

/** Why fleet benches can't run here; undefined if they can. */
export function fleetMissing(): string | undefined {
  return process.platform === 'linux' ? undefined : 'reads /proc: needs Linux';
}

const kibOf = async (pid: number): Promise<number> =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);

/** Resident memory of a process, MiB. */
export async function residentMiB(pid: number): Promise<number> {
  return (await kibOf(pid)) / 1024;
}

/** Processor time of a process, ms. */
export async function processorMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // In ticks of 1/100 s on every Linux that Node runs on.
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function frameHex(message: Parameters<typeof create<typeof ControllerMessageSchema>>[1]): string {
  const bytes = toBinary(ControllerMessageSchema, create(ControllerMessageSchema, message));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]).toString('hex');
}

/** A data directory with an authority and enrolled agents. Dispose removes it. */
export class FleetGround implements AsyncDisposable {
  readonly folder: string;
  readonly count: number;
  /** Files of identities, one for each client process. */
  readonly identityFiles: readonly string[];
  readonly privateKey: string;
  readonly authority: string;

  private constructor(parts: Pick<FleetGround, 'folder' | 'count' | 'identityFiles' | 'privateKey' | 'authority'>) {
    this.folder = parts.folder;
    this.count = parts.count;
    this.identityFiles = parts.identityFiles;
    this.privateKey = parts.privateKey;
    this.authority = parts.authority;
  }

  get dataDir(): string {
    return join(this.folder, 'controller');
  }

  static async make(count: number): Promise<FleetGround> {
    const folder = await mkdtemp(join(tmpdir(), 'll-fleet-'));
    using directory = await DataDirectory.open(join(folder, 'controller'));
    const { authority } = await openControllerIdentity(directory, ['127.0.0.1', 'localhost'], systemClock);
    await using store = openSqliteStore(directory.file('controller.db'));
    const keys = await newKeyPair();
    const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey));
    const privateKey = `-----BEGIN PRIVATE KEY-----\n${der.toString('base64')}\n-----END PRIVATE KEY-----\n`;
    const spki = await crypto.subtle.exportKey('spki', keys.publicKey);
    const request = { publicKey: new PublicKey(spki), publicKeyDer: new Uint8Array(spki) };
    const identities: { agentId: string; number: number; certificate: string }[] = [];
    const enrol = async (number: number): Promise<void> => {
      const agentId = `light-${String(number).padStart(5, '0')}`;
      const signed = await authority.signAgent(agentId, request, DAY_MS);
      const certificate = `-----BEGIN CERTIFICATE-----\n${Buffer.from(signed.der).toString('base64')}\n-----END CERTIFICATE-----\n`;
      identities[number] = { agentId, number, certificate };
      const { serial, expiresAtMs } = signed;
      const instanceId = newId();
      const identity = {
        agentId,
        instanceId,
        labels: { fleet: 'light' },
        enrolledAtMs: Date.now(),
        enrollmentTokenId: '',
        publicKeyHash: undefined,
        certificates: [{ serial, expiresAtMs, instanceId, tokenId: '' }],
        apiKeyHash: undefined,
        revoked: false,
        version: 1,
      };
      await store.agentIdentities.save({ identity, spendTokenId: undefined, nowMs: Date.now() });
    };
    for (let from = 0; from < count; from += 200) {
      await Promise.all(Array.from({ length: Math.min(200, count - from) }, (_, at) => enrol(from + at)));
    }
    const files: string[] = [];
    const perProcess = Math.ceil(count / Math.ceil(count / AGENTS_PER_PROCESS));
    for (let from = 0; from < count; from += perProcess) {
      const path = join(folder, `identities-${from}.json`);
      await writeFile(path, JSON.stringify(identities.slice(from, from + perProcess)), { mode: 0o600 });
      files.push(path);
    }
    return new FleetGround({ folder, count, identityFiles: files, privateKey, authority: authority.certificatePem });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A controller process on the ground. Dispose ends it. */
export class GroundController implements AsyncDisposable {
  readonly command: RunningCommand;
  readonly port: number;
  readonly contextPath: string;

  private constructor(command: RunningCommand, port: number, contextPath: string) {
    this.command = command;
    this.port = port;
    this.contextPath = contextPath;
  }

  get pid(): number {
    return this.command.process.pid!;
  }

  static async start(ground: FleetGround, port = 0): Promise<GroundController> {
    const args = [
      '--data-dir',
      ground.dataDir,
      '--listen',
      `127.0.0.1:${port}`,
      '--drain-window',
      '0s',
      '--log-level',
      'warn',
    ];
    const env = { PATH: process.env['PATH'], HOME: ground.folder };
    const command = new RunningCommand(['controller', ...args], env, true);
    const ready = await command.until('the controller is ready', () => {
      const line = command.stdout.split('\n').find((text) => text.startsWith('{"ready"'));
      return line === undefined ? undefined : (JSON.parse(line) as { url: string; context: string });
    });
    return new GroundController(command, Number(new URL(ready.url).port), ready.context);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.command.stop();
  }
}

/** The raw HTTP/2 peer as a process. Dispose ends it. */
export class RawPeer implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly port: number;

  private constructor(child: ChildProcess, port: number) {
    this.process = child;
    this.port = port;
  }

  static async start(ground: FleetGround, port = 0): Promise<RawPeer> {
    const authorityPath = join(ground.folder, 'authority.pem');
    await writeFile(authorityPath, ground.authority);
    const welcome = frameHex({
      message: { case: 'welcome', value: { protocol: 1, sessionToken: new Uint8Array(16) } },
    });
    const statement = { payloadType: 'application/vnd.longline.statement.v1+protobuf', payload: new Uint8Array(2200) };
    const command = frameHex({ message: { case: 'command', value: { seq: 1n, id: newId(), statement } } });
    const child = fork(
      join(import.meta.dirname, 'raw-server.ts'),
      [join(ground.dataDir, SERVER_FILE), authorityPath, welcome, command, '5a'.repeat(48), String(port)],
      { env: { ...process.env, ...MALLOC } },
    );
    const bound = Promise.withResolvers<number>();
    child.once('message', (message) => bound.resolve((message as { port: number }).port));
    child.once('exit', (code) => bound.reject(new Error(`the raw peer ended with ${code}`)));
    return new RawPeer(child, await bound.promise);
  }

  /** Milliseconds from one message to all until all have answered. */
  async fanOutMs(): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<number>();
    this.process.once('message', (message) => resolve((message as { fanOutMs: number }).fanOutMs));
    this.process.send('go');
    return await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill('SIGKILL');
  }
}

const SERVER_FILE = 'server.pem';

/** Client processes with all agents of a ground. Dispose ends them. */
export class LightFleet implements AsyncDisposable {
  readonly #children: ChildProcess[] = [];
  readonly #reports: (Report | undefined)[] = [];
  readonly #watchers = new Set<() => void>();

  /** Attaches all agents to a port, a few at once. */
  static async attach(ground: FleetGround, port: number): Promise<LightFleet> {
    const fleet = new LightFleet();
    for (const [index, identities] of ground.identityFiles.entries()) {
      const child = fork(join(import.meta.dirname, 'client-process.ts'), { execArgv: ['--max-old-space-size=4096'] });
      fleet.#children.push(child);
      child.on('message', (report: Report) => {
        fleet.#reports[index] = report;
        for (const watch of fleet.#watchers) watch();
      });
      const target = { port, privateKey: ground.privateKey, authority: ground.authority };
      const order: Attach = { kind: 'attach', identities, target, atOnce: FIRST_ATTACH_AT_ONCE };
      child.send(order);
    }
    await fleet.until('all agents are attached', ({ attached }) => attached >= ground.count, 300_000);
    return fleet;
  }

  /** Whether agents only confirm a command, or end it too. */
  answer(answers: Answers['answers']): void {
    for (const child of this.#children) child.send({ kind: 'answers', answers } satisfies Answers);
  }

  /** Sums over all processes. */
  get counts(): LightCounts {
    const sum = new LightCounts();
    for (const report of this.#reports) {
      if (report === undefined) continue;
      for (const key of Object.keys(sum) as (keyof LightCounts)[]) sum[key] += report[key];
    }
    return sum;
  }

  /** Resolves with the time at which the counts held it, milliseconds since the epoch. */
  async until(what: string, holds: (counts: LightCounts) => boolean, limitMs: number): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const look = () => {
      if (holds(this.counts)) resolve(Math.max(...this.#reports.map((report) => report?.atMs ?? 0)));
    };
    const limit = setTimeout(() => {
      reject(new Error(`not within ${limitMs} ms: ${what}; counts are ${JSON.stringify(this.counts)}`));
    }, limitMs);
    this.#watchers.add(look);
    look();
    try {
      return await promise;
    } finally {
      clearTimeout(limit);
      this.#watchers.delete(look);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
  }
}
