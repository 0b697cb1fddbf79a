// What tests of the jobs capability share: a host, a log and an engine in memory, and a reader of events.

import { JobsCapability } from '../../../src/capabilities/jobs/capability.ts';
import { type PartialJobsSettings, parseJobsConfig } from '../../../src/capabilities/jobs/config.ts';
import type {
  ClosedStream,
  ContainerEngine,
  ContainerSpec,
  GapReason,
  OutputLog,
  OutputLogs,
  OutputPiece,
  StreamName,
} from '../../../src/capabilities/jobs/ports.ts';
import type { CapabilityCommand, CapabilityEvent, CapabilityHost, StateStore } from '../../../src/core/capability.ts';
import { type Clock, systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { newId } from '../../../src/core/ids.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { FakeEngine, type FakeEngineOptions } from '../../fixtures/fake-engine.ts';
import { decodeEnding, decodeStep, encodeJobAction } from './job-messages.ts';

/** Fake engine that, like real ones, also makes containers from image ids. */
export class IdEngine extends FakeEngine {
  readonly #references = new Map<string, string>();

  override async findImage(reference: string, signal?: AbortSignal) {
    const facts = await super.findImage(reference, signal);
    if (facts !== undefined) this.#references.set(facts.id, reference);
    return facts;
  }

  override async createContainer(spec: ContainerSpec, signal?: AbortSignal): Promise<string> {
    return await super.createContainer({ ...spec, image: this.#references.get(spec.image) ?? spec.image }, signal);
  }
}

/** A fake engine with "alpine:latest". */
export function fakeEngine(options: FakeEngineOptions): IdEngine {
  return new IdEngine({ images: ['alpine:latest'], ...options });
}

/** A gap as it was declared. */
export interface DeclaredGap {
  readonly stream: StreamName;
  readonly from: number;
  readonly bytes: number;
  readonly reason: GapReason;
}

/** An output log in memory, with switches for its faults. */
export class MemoryLog implements OutputLog {
  readonly kept: Record<StreamName, Buffer[]> = { stdout: [], stderr: [] };
  readonly lengths: Record<StreamName, number> = { stdout: 0, stderr: 0 };
  readonly gaps: DeclaredGap[] = [];
  closed = 0;
  /** Thrown by the next calls of append. */
  failure: Error | undefined;
  /** Awaited by append. */
  gate: Promise<void> | undefined;

  length(stream: StreamName): number {
    return this.lengths[stream];
  }

  async append(piece: OutputPiece): Promise<void> {
    await this.gate;
    // As a write to disk does, it lets others have a turn.
    await new Promise((resolve) => setImmediate(resolve));
    if (this.failure !== undefined) throw this.failure;
    if (this.closed > 0) throw new Error('append to a closed log');
    this.kept[piece.stream].push(Buffer.from(piece.data));
    this.lengths[piece.stream] += piece.data.length;
  }

  async gap(stream: StreamName, bytes: number, reason: GapReason): Promise<void> {
    this.gaps.push({ stream, from: this.lengths[stream], bytes, reason });
    this.lengths[stream] += bytes;
  }

  async close(): Promise<readonly ClosedStream[]> {
    this.closed += 1;
    const gapBytes = (stream: StreamName) =>
      this.gaps.filter((gap) => gap.stream === stream).reduce((sum, gap) => sum + gap.bytes, 0);
    return (['stderr', 'stdout'] as const).map((stream) => ({
      stream,
      lengthBytes: this.lengths[stream],
      gapBytes: gapBytes(stream),
    }));
  }

  text(stream: StreamName = 'stdout'): string {
    return Buffer.concat(this.kept[stream]).toString();
  }
}

/** Logs that outlive a capability, as on disk. */
export class MemoryLogs implements OutputLogs {
  readonly logs = new Map<string, MemoryLog>();
  failure: Error | undefined;

  async open(executionId: string): Promise<MemoryLog> {
    if (this.failure !== undefined) throw this.failure;
    return this.get(executionId);
  }

  get(executionId: string): MemoryLog {
    const log = this.logs.get(executionId) ?? new MemoryLog();
    this.logs.set(executionId, log);
    return log;
  }
}

/** A state store that outlives a capability, as on disk. */
export class MemoryState implements StateStore {
  readonly values = new Map<string, Uint8Array>();

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.values.get(key);
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    this.values.set(key, Uint8Array.from(value));
  }

  async delete(key: string): Promise<void> {
    this.values.delete(key);
  }

  async list(prefix: string): Promise<readonly string[]> {
    return [...this.values.keys()].filter((key) => key.startsWith(prefix)).sort();
  }
}

/** The message of a spec, as encodeJobAction takes it. */
export type SpecInput = Parameters<typeof encodeJobAction>[0];

/** One capability over an engine; make a second one on the same parts to play a restarted agent. */
export class JobsWorld implements AsyncDisposable {
  readonly logs = new MemoryLogs();
  readonly state = new MemoryState();
  readonly instanceId = newId();
  readonly engine: ContainerEngine;
  readonly settings: PartialJobsSettings;
  readonly clock: Clock;
  readonly #opened: JobsCapability[] = [];

  constructor(engine: ContainerEngine, settings: PartialJobsSettings = {}, clock: Clock = systemClock) {
    this.engine = engine;
    this.settings = settings;
    this.clock = clock;
  }

  host(): CapabilityHost {
    const { signal } = new AbortController();
    return { log: silentLogger, clock: this.clock, state: this.state, signal, emit: () => undefined };
  }

  /** An open capability. `unfinished` as Recoverable.adopt takes it. */
  async start(unfinished: Iterable<string> = []): Promise<JobsCapability> {
    const jobs = new JobsCapability({
      engine: this.engine,
      logs: this.logs,
      credentials: { forImage: async () => undefined },
      paths: { resolve: (path) => path },
      instanceId: this.instanceId,
      config: parseJobsConfig(this.settings),
    });
    this.#opened.push(jobs);
    await jobs.open(this.host());
    await jobs.adopt(new Set(unfinished));
    return jobs;
  }

  /** Ends all capabilities of this world; their containers go on. */
  async letGo(): Promise<void> {
    for (const jobs of this.#opened.splice(0)) await jobs[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.letGo();
    await this.engine[Symbol.asyncDispose]();
  }
}

/** A command under way, read by a reader that makes the result durable before it reads on. */
export class Reading {
  readonly id: string;
  readonly steps: ReturnType<typeof decodeStep>['step'][] = [];
  readonly results: CapabilityEvent[] = [];
  /** Resolves when the events have ended. */
  readonly done: Promise<void>;
  readonly #cancel = new AbortController();
  #changed = Promise.withResolvers<void>();
  #over = false;

  constructor(
    jobs: JobsCapability,
    spec: SpecInput | Uint8Array,
    options: Partial<CapabilityCommand> & { resumed?: boolean; durable?: Promise<void> } = {},
  ) {
    const { resumed = false, durable = Promise.resolve(), ...rest } = options;
    const command: CapabilityCommand = {
      id: newId(),
      action: spec instanceof Uint8Array ? spec : encodeJobAction(spec),
      receivedAtMs: Date.now(),
      expiresAtMs: Date.now() + 3_600_000,
      traceparent: '',
      ...rest,
    };
    this.id = command.id;
    this.done = this.#read(jobs.handle(command, { signal: this.#cancel.signal, resumed, durable }));
  }

  cancel(): void {
    this.#cancel.abort(new LonglineError('cancelled', 'a test asked for it'));
  }

  /** The names of the steps so far, in order. */
  get names(): readonly (string | undefined)[] {
    return this.steps.map((step) => step.case);
  }

  /** Resolves at the first step of this name, with its value. */
  async step(name: string) {
    for (;;) {
      const found = this.steps.find((step) => step.case === name);
      if (found !== undefined) return found.value;
      if (this.#over) throw new Error(`the job ended without a step ${name}: ${this.names.join(', ')}`);
      await this.#changed.promise;
    }
  }

  /** The one result, decoded, once the events have ended. */
  async result() {
    await this.done;
    const [result] = this.results;
    if (result?.kind !== 'result' || this.results.length !== 1) throw new Error(`${this.results.length} results came`);
    return { outcome: result.outcome, ...decodeEnding(result.detail) };
  }

  async #read(events: AsyncIterable<CapabilityEvent>): Promise<void> {
    for await (const event of events) {
      if (event.kind === 'result') this.results.push(event);
      else this.steps.push(decodeStep(event.detail).step);
      this.#signal();
    }
    this.#over = true;
    this.#signal();
  }

  #signal(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }
}

/** Resolves once the condition holds; rejects after a minute. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const limit = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > limit) throw new Error(`waited too long for ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
