// What the agent adds before a job begins: from a signed command in its hands to the first word to the engine (the command
// on a warm container's standard input, or the call that creates a cold one). Everything between is the real thing, with all
// its syncs: signature, nonce, policy, audit log, journal, run record, log. The engine is one in memory: its time isn't ours.
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Command, CommandSchema } from '#gen/longline/link/v1/link_pb.js';
import { Admission } from '../../src/agent/admission.ts';
import { AuditLog } from '../../src/agent/audit/audit-log.ts';
import { auditedExecutor } from '../../src/agent/audit/audited-executor.ts';
import { CapabilityRegistry } from '../../src/agent/capability-registry.ts';
import { DiskGuard } from '../../src/agent/disk-guard.ts';
import { hostPaths } from '../../src/agent/policy/host-paths.ts';
import { PolicyStore } from '../../src/agent/policy/policy-store.ts';
import { StateFile } from '../../src/agent/state-file.ts';
import { formatTrustEntry } from '../../src/agent/trust/trust-entry-text.ts';
import { TrustStore } from '../../src/agent/trust/trust-store.ts';
import { JobsCapability } from '../../src/capabilities/jobs/capability.ts';
import { parseJobsConfig } from '../../src/capabilities/jobs/config.ts';
import type { Attachment, ContainerSpec } from '../../src/capabilities/jobs/ports.ts';
import { DEFAULT_SESSIONS_CONFIG } from '../../src/capabilities/sessions/config.ts';
import { systemClock } from '../../src/core/clock.ts';
import { newId } from '../../src/core/ids.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { generateSigningKey, type SigningKey } from '../../src/core/signing/signing-key.ts';
import { CommandDispatcher } from '../../src/link/command-dispatcher.ts';
import { Journal } from '../../src/link/journal.ts';
import { LogSpool } from '../../src/link/log-spool.ts';
import { Outbox } from '../../src/link/outbox.ts';
import { signed, statementBytes } from '../agent/trust/statement-fixture.ts';
import { IdEngine } from '../capabilities/jobs/jobs-fixture.ts';
import type { FakeProcess } from '../fixtures/fake-container.ts';
import { type Bench, median, percentile } from './bench.ts';

const IMAGE = 'alpine';
const AGENT = { agentId: 'web-1', labels: {} };

/** Tells when it is first spoken to about a job. */
class ListeningEngine extends IdEngine {
  spoken: () => void = () => undefined;

  override async createContainer(spec: ContainerSpec, signal?: AbortSignal): Promise<string> {
    if (spec.name.startsWith('longline-job-')) this.spoken();
    return await super.createContainer(spec, signal);
  }

  override async attach(id: string, withInput: boolean, signal?: AbortSignal): Promise<Attachment> {
    const attachment = await super.attach(id, withInput, signal);
    const writeInput = (data: Uint8Array) => {
      this.spoken();
      return attachment.writeInput(data);
    };
    const { output } = attachment;
    return { output, writeInput, endInput: () => attachment.endInput(), destroy: () => attachment.destroy() };
  }
}

async function readsOneLine({ stdin }: FakeProcess): Promise<number> {
  for await (const _ of stdin) return 0;
  return 125;
}

/** All of an agent but its connection and its engine, on a folder of its own. */
class BenchAgent implements AsyncDisposable {
  readonly engine = new ListeningEngine({ images: [`${IMAGE}:latest`], program: () => readsOneLine });
  readonly #stack: AsyncDisposableStack;
  readonly #key: SigningKey;
  readonly #dispatcher: CommandDispatcher;
  readonly #outbox: Outbox;
  readonly #jobs: JobsCapability;

  private constructor(stack: AsyncDisposableStack, key: SigningKey, parts: BenchAgentParts) {
    this.#stack = stack;
    this.#key = key;
    this.#outbox = new Outbox({ maxEvents: 1 });
    const { config, journal, spool, admission, audit, state, folder } = parts;
    this.#jobs = new JobsCapability({
      engine: this.engine,
      logs: { open: (id) => spool.open(id) },
      credentials: { forImage: async () => undefined },
      paths: hostPaths([]),
      instanceId: newId(),
      config,
    });
    const { signal } = new AbortController();
    const host = {
      log: silentLogger,
      clock: systemClock,
      state: state.namespace('jobs'),
      signal,
      emit: () => undefined,
    };
    const registry = new CapabilityRegistry([this.#jobs], () => host, silentLogger);
    this.#dispatcher = new CommandDispatcher({
      journal,
      outbox: this.#outbox,
      admission: new DiskGuard(admission, folder, 0, systemClock),
      executor: auditedExecutor(registry, audit, silentLogger),
      clock: systemClock,
      log: silentLogger,
      maxUnfinished: 100,
      maxReplies: 8192,
      maxReplyBytes: 2 ** 26,
      leaderEpoch: () => 0n,
    });
    stack.use(registry);
    stack.use(this.#dispatcher);
    this.opened = registry.open(() => new Set());
  }

  readonly opened: Promise<unknown>;

  static async start(warm: boolean): Promise<BenchAgent> {
    await using stack = new AsyncDisposableStack();
    const folder = await mkdtemp(join(tmpdir(), 'longline-overhead-'));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const key = generateSigningKey('ed25519', 'ops');
    const images = warm ? [{ reference: IMAGE, size: 1 }] : [];
    const config = parseJobsConfig({ allowedImages: ['**'], warm: { images, initPath: process.execPath } });
    const parts = await openParts(folder, key, config, stack);
    const agent = new BenchAgent(stack.move(), key, parts);
    await agent.opened;
    return agent;
  }

  /** Milliseconds from a command to the first word to the engine, of a job that then runs to its end. */
  async overheadMs(warm: boolean): Promise<number> {
    if (warm) await until(() => this.#jobs.counts().warm === 1);
    const command = this.#command();
    const { promise: spoken, resolve } = Promise.withResolvers<number>();
    this.engine.spoken = () => resolve(performance.now());
    const startedMs = performance.now();
    this.#dispatcher.take(command);
    const ms = (await spoken) - startedMs;
    await until(() => this.#replied(command.id));
    return ms;
  }

  #command(): Command {
    const nowMs = Date.now();
    const [issueTime, expireTime] = [nowMs, nowMs + 60_000].map(timestampFromMs) as [never, never];
    const payload = statementBytes({ issueTime, expireTime }, { argv: ['echo', 'x'], image: IMAGE });
    return create(CommandSchema, {
      id: newId(),
      seq: 1n,
      statement: signed(payload, this.#key),
      issueTime,
      expireTime,
    });
  }

  #replied(id: string): boolean {
    for (let message = this.#outbox.take(); message !== undefined; message = this.#outbox.take()) {
      if (message.message.case === 'rejected') throw new Error(`refused: ${message.message.value.error?.message}`);
      if (message.message.case !== 'result' || message.message.value.commandId !== id) continue;
      this.#dispatcher.acknowledge([id]);
      return true;
    }
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

interface BenchAgentParts {
  readonly folder: string;
  readonly config: ReturnType<typeof parseJobsConfig>;
  readonly journal: Journal;
  readonly spool: LogSpool;
  readonly admission: Admission;
  readonly audit: AuditLog;
  readonly state: StateFile;
}

async function openParts(
  folder: string,
  key: SigningKey,
  config: BenchAgentParts['config'],
  stack: AsyncDisposableStack,
): Promise<BenchAgentParts> {
  const options = { clock: systemClock, log: silentLogger };
  const grant = { keyId: 'ops', publicKey: key.publicKey, secretFile: undefined, controllers: ['main'] };
  const rights = { capabilities: ['jobs'], selectors: [], scopes: [], notAfterMs: undefined };
  const trustFile = join(folder, 'trust.toml');
  await writeFile(trustFile, formatTrustEntry({ ...grant, ...rights }), { mode: 0o644 });
  const trust = new TrustStore({
    trustFile: { path: trustFile, required: true },
    enrollmentFile: undefined,
    enrollmentScopes: [],
  });
  await trust.load();
  const paths = hostPaths([]);
  const policy = new PolicyStore(undefined, { paths, defaultUser: config.defaults.user, defaultRuntime: '' });
  await policy.load();
  const audit = stack.use(await AuditLog.open({ ...options, dataDir: folder, onCheckpoint: () => undefined }));
  const state = stack.use(await StateFile.open(join(folder, 'state'), options));
  const journal = stack.use(await Journal.open({ ...options, folder: join(folder, 'journal') }));
  const limits = { maxBytes: 1e9, maxLogBytes: 1e9, segmentBytes: 1e6 };
  const spool = stack.use(await LogSpool.open({ folder: join(folder, 'spool'), log: silentLogger, limits }));
  const admission = new Admission({
    sessions: DEFAULT_SESSIONS_CONFIG,
    ...{ trust, policy, audit, paths, clock: systemClock, jobs: config },
    nameplate: () => AGENT,
    allowedControllers: () => undefined,
    maxSkewMs: 60_000,
  });
  return { folder, config, journal, spool, admission, audit, state };
}

/** What one sync of a few hundred bytes takes, as journal, audit log and record each need one. */
async function syncMs(count: number): Promise<number[]> {
  const folder = await mkdtemp(join(tmpdir(), 'longline-overhead-'));
  try {
    await using file = await open(join(folder, 'sync'), 'a');
    const samples: number[] = [];
    for (let index = 0; index < count; index++) {
      const startedMs = performance.now();
      await file.write(Buffer.alloc(600));
      await file.datasync();
      samples.push(performance.now() - startedMs);
    }
    return samples;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function until(holds: () => boolean): Promise<void> {
  const endsAt = performance.now() + 30_000;
  while (!holds()) {
    if (performance.now() > endsAt) throw new Error('waited for 30 s in vain');
    // A process that never rests is made to wait by the scheduler, just when it is measured.
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function measure(warm: boolean, count: number): Promise<number[]> {
  await using agent = await BenchAgent.start(warm);
  // An agent lives long: what its first jobs cost is the compiler's.
  for (let index = 0; index < count / 2; index++) await agent.overheadMs(warm);
  const samples: number[] = [];
  for (let index = 0; index < count; index++) samples.push(await agent.overheadMs(warm));
  return samples;
}

/** The bench. */
export const bench: Bench = {
  name: 'overhead',
  description: 'signature, nonce, policy, audit and journal: from a command at the agent to its engine',
  missing: () => undefined,
  run: async ({ quick, say }) => {
    const count = quick ? 5 : 200;
    say(`${count} warm jobs, as many cold ones and syncs`);
    const warm = await measure(true, count);
    const cold = await measure(false, count);
    const peer = { name: 'one fdatasync', value: median(await syncMs(count)) };
    const goal = { kind: 'at most', value: 2 } as const;
    return [
      { metric: 'to a warm container, p50', unit: 'ms', ours: median(warm), peer, goal },
      { metric: 'to a warm container, p99', unit: 'ms', ours: percentile(warm, 0.99) },
      { metric: 'to the call that creates one, p50', unit: 'ms', ours: median(cold), peer, goal },
      { metric: 'to the call that creates one, p99', unit: 'ms', ours: percentile(cold, 0.99) },
    ];
  },
};
