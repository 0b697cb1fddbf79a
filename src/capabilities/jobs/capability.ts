// Capability "jobs": runs one-shot commands in hardened containers, each at most once, with their output kept whole.
// It knows a container engine, a log and registry credentials by their ports only; who may run what was decided before
// `handle` is called. A job that fails ends with a result that says why; a lost engine is waited for, and an outcome that
// can't be known is told as unknown. Disposing leaves running containers alone: the next process adopts them.
import { uptime } from 'node:os';
import { Backoff } from '../../core/backoff.ts';
import type {
  Anticipating,
  Availability,
  Capability,
  CapabilityCommand,
  CapabilityEvent,
  CapabilityHealth,
  CapabilityHost,
  CommandContext,
  HealthChecked,
  InputConsumer,
  Recoverable,
} from '../../core/capability.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import { type ImageLedger, ImagePuller } from '../../core/images/image-puller.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import type { JobsConfig } from './config.ts';
import { ContainerReaper } from './container-reaper.ts';
import { EngineWatch } from './engine-watch.ts';
import type { InputReceipt } from './input-gate.ts';
import { JobQueue } from './job-queue.ts';
import { JobRun } from './job-run.ts';
import { containerSpec, LABEL, strays } from './plan.ts';
import type { ContainerEngine, CredentialSource, EngineFacts, HostPaths, OutputLogs } from './ports.ts';
import { RunRecords } from './run-record.ts';
import type { JobServices } from './services.ts';
import { parseJobSpec } from './spec.ts';
import { WarmPool } from './warm-pool.ts';
import { emptyJobSpec } from './wire.ts';

/** What the capability is made from. The engine stays its giver's to dispose. */
export interface JobsCapabilityOptions {
  readonly engine: ContainerEngine;
  readonly logs: OutputLogs;
  readonly credentials: CredentialSource;
  readonly paths: HostPaths;
  /** Hears of images that jobs pull and use. */
  readonly images?: ImageLedger;
  /** Identifies this agent's containers among all others; the same for as long as its data folder lives. */
  readonly instanceId: string;
  readonly config: JobsConfig;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer;
}

/** How busy it is. */
export interface JobCounts {
  readonly running: number;
  readonly queued: number;
  readonly max: number;
  /** Warm containers that wait. */
  readonly warm: number;
}

/** What it did since the process was started. */
export interface JobTotals {
  /** Jobs that were given a place to run in. */
  readonly started: number;
  /** Jobs that found a warm container, and those that would have liked one. */
  readonly warmServed: number;
  readonly warmMissed: number;
}

interface Active {
  readonly run: JobRun;
  readonly settled: Promise<void>;
}

const REMOVALS_AT_ONCE = 4;
const MEND_ENGINE = 'see whether the container engine runs: docker info';

/** The jobs capability. */
export class JobsCapability implements Capability, Anticipating, Recoverable, HealthChecked, InputConsumer {
  readonly name = 'jobs';
  readonly anticipates = true;
  readonly #options: JobsCapabilityOptions;
  readonly #active = new Map<string, Active>();
  readonly #stop = new AbortController();
  #services: JobServices | undefined;
  #hostSignal: AbortSignal | undefined;
  /** Commands that came while containers of an earlier process are still to be looked through. */
  #cameMeanwhile: Set<string> | undefined = new Set();
  #adopting: Promise<void> = Promise.resolve();

  constructor(options: JobsCapabilityOptions) {
    this.#options = options;
  }

  async open(host: CapabilityHost): Promise<Availability> {
    this.#services ??= this.#serve(host);
    try {
      return this.#available(await this.#options.engine.facts(host.signal));
    } catch (error) {
      const { reason, message } = toLonglineError(error);
      return {
        available: false,
        reason: reason === 'internal' ? describeError(error) : message,
        mend: 'install and start Docker or Podman, and let the agent reach its socket (docker_host in the configuration)',
      };
    }
  }

  /** How many jobs run and wait. */
  counts(): JobCounts {
    const { queue, pool } = this.#services ?? {};
    return {
      running: queue?.running ?? 0,
      queued: queue?.waiting ?? 0,
      max: this.#options.config.maxConcurrent,
      warm: pool?.size ?? 0,
    };
  }

  /** What it did so far. */
  totals(): JobTotals {
    const { queue, pool } = this.#services ?? {};
    const { served = 0, missed = 0 } = pool?.requests ?? {};
    return { started: queue?.started ?? 0, warmServed: served, warmMissed: missed };
  }

  /**
   * As Capability.handle. The reader must make the result durable before it reads on: reading on removes the container.
   * The events end without a result only if the capability is let go meanwhile: then the command stays unfinished.
   */
  handle(command: CapabilityCommand, context: CommandContext): AsyncIterable<CapabilityEvent> {
    if (this.#services === undefined)
      throw new LonglineError('wrong_state', 'jobs were not opened before a command came');
    const run = new JobRun(this.#services, command, context, (begun, settled) => {
      this.#active.set(command.id, { run: begun, settled });
      this.#cameMeanwhile?.add(command.id);
      settled.finally(() => {
        if (this.#active.get(command.id)?.run === begun) this.#active.delete(command.id);
      });
      if (this.#stop.signal.aborted) begun.letGo();
    });
    return run.events;
  }

  async writeInput(commandId: string, offset: number, data: Uint8Array, end: boolean): Promise<InputReceipt> {
    const active = this.#active.get(commandId);
    if (active === undefined) return { taken: 0, closed: true };
    return await active.run.input.gate.write(offset, data, end);
  }

  /** As Recoverable.adopt. Where the engine is away, it resolves all the same and goes on in the background. */
  async adopt(unfinishedIds: ReadonlySet<string>): Promise<void> {
    const services = this.#services;
    if (services === undefined) throw new LonglineError('wrong_state', 'jobs were not opened before adoption');
    try {
      await this.#adoptNow(services, unfinishedIds);
      this.#adopting = this.#prewarm(services);
    } catch (error) {
      services.log.warn('containers of an earlier process are looked for later', { detail: describeError(error) });
      this.#adopting = this.#adoptLater(services, unfinishedIds);
    }
  }

  async health(): Promise<CapabilityHealth> {
    const services = this.#services;
    if (services === undefined) return { ok: false, detail: 'not opened' };
    try {
      const facts = await services.engine.facts();
      const { running, queued, max, warm } = this.counts();
      const { state } = services.pool;
      const pool = state.kind === 'off' ? `no warm pool: ${state.reason}` : `${warm} warm`;
      const left = services.reaper.pending;
      const detail = `${facts.kind} ${facts.version}: ${running} of ${max} jobs run, ${queued} wait, ${pool}`;
      return left === 0
        ? { ok: true, detail }
        : { ok: false, works: true, detail: `${detail}, ${left} containers can't be removed yet`, mend: MEND_ENGINE };
    } catch (error) {
      return { ok: false, detail: describeError(error), mend: MEND_ENGINE };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new LonglineError('cancelled', 'the jobs capability is closed'));
    this.#hostSignal?.removeEventListener('abort', this.#letGo);
    this.#letGo();
    await Promise.all([...this.#active.values()].map((active) => active.settled));
    await this.#adopting;
    if (this.#services === undefined) return;
    const { pool, reaper, watch } = this.#services;
    await pool[Symbol.asyncDispose]();
    await reaper[Symbol.asyncDispose]();
    await watch[Symbol.asyncDispose]();
  }

  readonly #letGo = () => {
    for (const { run } of this.#active.values()) run.letGo();
  };

  #serve(host: CapabilityHost): JobServices {
    const { engine, logs, credentials, paths, images, instanceId, config, tracer = noTracer } = this.#options;
    const { clock, log, state } = host;
    const reaper = new ContainerReaper(engine, clock, log);
    this.#hostSignal = host.signal;
    host.signal.addEventListener('abort', this.#letGo, { once: true });
    return {
      ...{ engine, logs, paths, clock, log, tracer, config, instanceId, reaper },
      records: new RunRecords(state),
      queue: new JobQueue(config.maxConcurrent, config.maxQueued),
      puller: new ImagePuller({ engine, credentials, clock, settings: config.pull, ...(images && { ledger: images }) }),
      pool: new WarmPool({ engine, clock, log, reaper, instanceId, settings: config.warm }),
      watch: new EngineWatch(engine, clock, log),
      hostBootedAtMs: clock.now() - uptime() * 1000,
    };
  }

  #available(facts: EngineFacts): Availability {
    const { config } = this.#options;
    const pool = this.#services!.pool.state;
    return {
      available: true,
      limits: {
        max_concurrent_jobs: config.maxConcurrent,
        max_queued_jobs: config.maxQueued,
        max_cpus: config.limits.cpus,
        max_memory_bytes: config.limits.memoryBytes,
        max_timeout_seconds: config.limits.timeoutMs / 1000,
        max_output_bytes: config.limits.outputBytes,
      },
      attributes: {
        engine: `${facts.kind} ${facts.version}`,
        runtimes: facts.runtimes.join(','),
        default_image: config.defaults.image,
        allowed_images: config.allowedImages.join(','),
        warm_pool: config.warm.images.length > 0 && pool.kind !== 'over' ? 'on' : 'off',
      },
    };
  }

  async #adoptNow(services: JobServices, unfinishedIds: ReadonlySet<string>): Promise<void> {
    const { engine, records, reaper, instanceId, log } = services;
    const known = await records.all();
    const containers = await engine.list(LABEL.instance, instanceId, this.#stop.signal);
    const wanted = new Set([...unfinishedIds, ...(this.#cameMeanwhile ?? [])]);
    const leftovers = [...strays(containers, wanted, known)];
    if (leftovers.length > 0) log.info('removing containers that no command waits for', { count: leftovers.length });
    for (
      let batch = leftovers.splice(0, REMOVALS_AT_ONCE);
      batch.length > 0;
      batch = leftovers.splice(0, REMOVALS_AT_ONCE)
    ) {
      await Promise.all(batch.map((container) => reaper.remove(container.id)));
    }
    for (const executionId of known.keys()) if (!wanted.has(executionId)) await records.delete(executionId);
    this.#cameMeanwhile = undefined;
    await services.pool.open();
  }

  async #adoptLater(services: JobServices, unfinishedIds: ReadonlySet<string>): Promise<void> {
    const backoff = new Backoff({ baseMs: 1000, capMs: 30_000 });
    while (!this.#stop.signal.aborted) {
      await services.clock.sleep(backoff.next(200), this.#stop.signal).catch(() => undefined);
      try {
        await this.#adoptNow(services, unfinishedIds);
        return await this.#prewarm(services);
      } catch (error) {
        services.log.debug('the engine is still away', { detail: describeError(error) });
      }
    }
  }

  // Warms the default shape of each opted-in image, so that the first job finds it.
  async #prewarm(services: JobServices): Promise<void> {
    const { config, pool, puller, instanceId, log } = services;
    if (pool.state.kind !== 'on') return;
    for (const { reference } of config.warm.images) {
      try {
        const spec = parseJobSpec(emptyJobSpec(reference), config);
        const facts = await puller.ensure(spec.image.text, 'if_missing', () => undefined, this.#stop.signal);
        pool.warm(spec.image.text, facts, containerSpec(spec, { executionId: '', instanceId, image: facts }));
      } catch (error) {
        if (!this.#stop.signal.aborted)
          log.warn('could not warm an image', { reference, detail: describeError(error) });
      }
    }
  }
}
