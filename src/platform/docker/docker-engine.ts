// ContainerEngine over the Docker API, for Docker (20.10 and newer) and Podman's compatible socket (4.x and newer).
// Must not know jobs: what to run, when to pull and what to keep is decided elsewhere. Holds no state that matters: after
// a crash a new one on the same address does as well. Every call ends within its limit, with a LonglineError if it fails;
// `unavailable` means that the daemon was not there or was lost, and says nothing about the container.
import type {
  Attachment,
  ContainerEngine,
  ContainerExit,
  ContainerFacts,
  ContainerSpec,
  ContainerUsage,
  EngineEvent,
  EngineFacts,
  ImageFacts,
  OutputPiece,
  PullProgress,
  RegistryCredentials,
} from '../../capabilities/jobs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { SocketAttachment } from './attachment.ts';
import { CallScope } from './call-scope.ts';
import { createBody } from './container-config.ts';
import { containerFacts, type RawContainer } from './container-facts.ts';
import { containerLog, followedLog } from './container-log.ts';
import { removeContainer } from './container-removal.ts';
import { DaemonWatch } from './daemon-watch.ts';
import type { EngineAddress } from './engine-address.ts';
import { EngineClient, RefusedError } from './engine-client.ts';
import { saysNotRunning } from './engine-errors.ts';
import { engineEvents, openEvents } from './engine-events.ts';
import { ExitWatch, type ExitWatchOptions } from './exit-watch.ts';
import { ImageStore } from './image-store.ts';
import { bodyOf, closing, readExit } from './response-body.ts';
import { UsageSampler, usageFilesOf } from './usage-sampler.ts';

/** Limits of a DockerEngine. */
export interface DockerEngineOptions {
  /** Most time for any call but pulls and streams; the default is 30 s. */
  readonly callLimitMs?: number;
  /** Most time that a pull may go without a word from the engine; the default is 120 s. */
  readonly pullStallMs?: number;
  /** How often the engine's waits are backed up by a listing. */
  readonly exitWatch?: ExitWatchOptions;
}

const CALL_LIMIT_MS = 30_000;
const PULL_STALL_MS = 120_000;
const LIST_CONCURRENCY = 8;
const RUNNING: ReadonlySet<ContainerFacts['state']> = new Set(['running', 'paused', 'restarting']);

/** The engine at an address. Makes no connection before its first call. Dispose ends calls and streams under way. */
export class DockerEngine implements ContainerEngine {
  readonly #client: EngineClient;
  readonly #watch: DaemonWatch;
  readonly #sampler = new UsageSampler();
  readonly #attachments = new Set<Attachment>();
  readonly #local: boolean;
  readonly #images: ImageStore;
  readonly #exits: ExitWatch;
  #root: string | undefined;

  constructor(address: EngineAddress, options: DockerEngineOptions = {}) {
    this.#client = new EngineClient(address, options.callLimitMs ?? CALL_LIMIT_MS);
    this.#watch = new DaemonWatch(this.#client);
    this.#local = address.kind === 'unix';
    this.#images = new ImageStore(this.#client, options.pullStallMs ?? PULL_STALL_MS);
    this.#exits = new ExitWatch({ exited: () => this.#exited(), inspect: (id) => this.inspect(id) }, options.exitWatch);
  }

  async facts(signal?: AbortSignal): Promise<EngineFacts> {
    const info = await this.#info(signal);
    const { kind, version } = await this.#client.version(signal);
    return {
      kind,
      version,
      // Podman lists runtimes that it might know, and lets its compatible API choose none but the default.
      runtimes: kind === 'podman' ? [info.DefaultRuntime ?? ''] : Object.keys(info.Runtimes ?? {}).sort(),
      defaultRuntime: info.DefaultRuntime ?? '',
    };
  }

  async findImage(reference: string, signal?: AbortSignal): Promise<ImageFacts | undefined> {
    return await this.#images.find(reference, signal);
  }

  pullImage(
    reference: string,
    credentials: RegistryCredentials | undefined,
    signal?: AbortSignal,
  ): AsyncGenerator<PullProgress, void, undefined> {
    return this.#images.pull(reference, credentials, signal);
  }

  async createContainer(spec: ContainerSpec, signal?: AbortSignal): Promise<string> {
    const { kind } = await this.#client.version(signal);
    if (kind === 'podman' && spec.runtime !== '') await this.#refuseOtherRuntime(spec.runtime, signal);
    const created = await this.#client.json<{ readonly Id: string }>(
      {
        method: 'POST',
        path: '/containers/create',
        query: { name: spec.name },
        body: createBody(spec, kind),
        what: `create container ${spec.name} from ${spec.image}`,
        limitMs: this.#client.limitMs,
      },
      signal,
    );
    if (created === undefined) throw new LonglineError('internal', 'the container engine gave no container id');
    return created.Id;
  }

  async attach(id: string, withInput: boolean, signal?: AbortSignal): Promise<Attachment> {
    const life = await this.#watch.life(signal);
    const input = withInput ? { stdin: '1' } : {};
    const socket = await this.#client.upgrade(
      {
        path: `/containers/${id}/attach`,
        query: { stream: '1', stdout: '1', stderr: '1', ...input },
        what: `attach to container ${short(id)}`,
        limitMs: this.#client.limitMs,
      },
      signal,
    );
    const attachment = new SocketAttachment(socket, withInput, {
      where: this.#client.where,
      confirmEnd: async () => {
        this.#sampler.sample(id);
        this.#exits.outputEnded(id);
        await this.#watch.confirm(life);
      },
      closed: () => this.#attachments.delete(attachment),
    });
    this.#attachments.add(attachment);
    return attachment;
  }

  async armExit(id: string, signal?: AbortSignal): Promise<{ readonly exit: Promise<ContainerExit> }> {
    const what = `wait for container ${short(id)}`;
    const response = await this.#client.open(
      {
        method: 'POST',
        path: `/containers/${id}/wait`,
        query: { condition: 'next-exit' },
        what,
        limitMs: this.#client.limitMs,
      },
      signal,
    );
    const exit = this.#exits.watch(id, readExit(response, what), () => response.body.destroy());
    // Whoever armed it may have gone by then; the failure stays visible to those who await.
    exit.catch(() => undefined);
    return { exit };
  }

  async start(id: string, signal?: AbortSignal): Promise<void> {
    if (this.#local) this.#sampler.watchAhead(id);
    await this.#client.json(
      {
        method: 'POST',
        path: `/containers/${id}/start`,
        what: `start container ${short(id)}`,
        limitMs: this.#client.limitMs,
      },
      signal,
    );
    this.#exits.running(id);
    if (this.#local && !this.#sampler.knows(id)) this.#beginSampling(id);
  }

  async kill(id: string, signalName: string, signal?: AbortSignal): Promise<void> {
    const what = `send ${signalName} to container ${short(id)}`;
    await this.#client
      .json(
        {
          method: 'POST',
          path: `/containers/${id}/kill`,
          query: { signal: signalName },
          what,
          limitMs: this.#client.limitMs,
        },
        signal,
      )
      .catch((error: unknown) => {
        if (!(error instanceof RefusedError && saysNotRunning(error.refusal))) throw error;
      });
  }

  async inspect(id: string, signal?: AbortSignal): Promise<ContainerFacts | undefined> {
    const raw = await this.#raw(id, signal);
    if (raw === undefined) return undefined;
    const facts = containerFacts(raw);
    if (RUNNING.has(facts.state)) this.#exits.running(id);
    return facts;
  }

  async remove(id: string, signal?: AbortSignal): Promise<void> {
    await removeContainer(this.#client, id, signal);
    this.#sampler.forget(id);
    this.#exits.removed(id);
  }

  async list(label: string, value: string, signal?: AbortSignal): Promise<readonly ContainerFacts[]> {
    const what = `list containers with label ${label}=${value}`;
    const rows = await this.#rows({ label: [`${label}=${value}`] }, what, signal);
    const found: ContainerFacts[] = [];
    for (let at = 0; at < rows.length; at += LIST_CONCURRENCY) {
      const batch = rows.slice(at, at + LIST_CONCURRENCY);
      const facts = await Promise.all(batch.map((row) => this.inspect(row.Id, signal)));
      // Those removed meanwhile are left out. Podman takes a label's value for a prefix, so it is checked here.
      for (const one of facts) if (one?.labels[label] === value) found.push(one);
    }
    return found;
  }

  async *readLogs(id: string, follow: boolean, signal?: AbortSignal): AsyncGenerator<OutputPiece, void, undefined> {
    const raw = await this.#raw(id, signal);
    if (raw === undefined) throw new LonglineError('not_found', `container ${short(id)} doesn't exist`);
    const root = this.#local ? await this.#rootFolder(signal) : undefined;
    const source = { client: this.#client, container: raw, engineRoot: root };
    if (!follow) {
      yield* containerLog(source, signal);
      return;
    }
    using reading = new CallScope(`follow the log of container ${short(id)}`, undefined, [signal]);
    try {
      yield* followedLog(source, () => this.#ended(id, reading.signal), reading.signal);
    } finally {
      reading.end();
    }
  }

  async *events(signal: AbortSignal): AsyncGenerator<EngineEvent, void, undefined> {
    const response = await openEvents(this.#client, signal);
    yield* closing(response, engineEvents(bodyOf(response)));
  }

  async usage(id: string, signal?: AbortSignal): Promise<ContainerUsage | undefined> {
    if (this.#local && !this.#sampler.knows(id)) await this.#watchUsage(id, signal);
    if (this.#sampler.knows(id)) return this.#sampler.sample(id);
    const stats = await this.#client.found<RawStats>(
      `read the usage of container ${short(id)}`,
      `/containers/${id}/stats?stream=false&one-shot=true`,
      signal,
    );
    const cpuNanos = stats?.cpu_stats?.cpu_usage?.total_usage ?? 0;
    return cpuNanos === 0 ? undefined : { cpuNanos, memoryPeakBytes: stats?.memory_stats?.max_usage ?? 0 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const attachment of this.#attachments) attachment.destroy();
    this.#sampler[Symbol.dispose]();
    this.#exits[Symbol.dispose]();
    this.#watch[Symbol.dispose]();
    this.#client[Symbol.dispose]();
  }

  async #raw(id: string, signal?: AbortSignal): Promise<RawContainer | undefined> {
    return await this.#client.found<RawContainer>(`inspect container ${short(id)}`, `/containers/${id}/json`, signal);
  }

  /** Resolves when the container has ended or is gone. */
  async #ended(id: string, signal: AbortSignal): Promise<void> {
    const { exit } = await this.armExit(id, signal);
    // Armed on a container that had just ended, the wait would be for an end that never comes.
    const facts = await this.inspect(id, signal);
    if (facts === undefined || facts.state === 'exited' || facts.state === 'dead') return;
    await exit.catch((error: unknown) => {
      if (!(error instanceof LonglineError && error.reason === 'not_found')) throw error;
    });
  }

  async #exited(): Promise<ReadonlySet<string>> {
    return new Set((await this.#rows({ status: ['exited'] }, 'list exited containers')).map((row) => row.Id));
  }

  async #rows(filters: object, what: string, signal?: AbortSignal): Promise<readonly { readonly Id: string }[]> {
    const query = { all: 'true', filters: JSON.stringify(filters) };
    const request = { method: 'GET', path: '/containers/json', query, what, limitMs: this.#client.limitMs } as const;
    return (await this.#client.json<readonly { readonly Id: string }[]>(request, signal)) ?? [];
  }

  async #info(signal?: AbortSignal): Promise<RawInfo> {
    return (await this.#client.found<RawInfo>('ask for facts', '/info', signal)) ?? {};
  }

  async #rootFolder(signal?: AbortSignal): Promise<string | undefined> {
    this.#root ??= (await this.#info(signal)).DockerRootDir;
    return this.#root;
  }

  /** Off the critical path of a start, and never a reason for it to fail: what isn't known is reported as not known. */
  #beginSampling(id: string): void {
    this.#watchUsage(id, undefined).catch(() => undefined);
  }

  async #watchUsage(id: string, signal: AbortSignal | undefined): Promise<void> {
    const files = usageFilesOf((await this.#raw(id, signal))?.State.Pid ?? 0);
    if (files !== undefined) this.#sampler.watch(id, files);
  }

  /** Podman's compatible API ignores the runtime: a job that asks for gVisor would run without it. */
  async #refuseOtherRuntime(runtime: string, signal?: AbortSignal): Promise<void> {
    const { defaultRuntime } = await this.facts(signal);
    if (runtime === defaultRuntime) return;
    throw new LonglineError(
      'unsupported',
      `runtime ${JSON.stringify(runtime)}: this podman runs containers with ${JSON.stringify(defaultRuntime)} only`,
    );
  }
}

interface RawInfo {
  readonly Runtimes?: Readonly<Record<string, unknown>>;
  readonly DefaultRuntime?: string;
  readonly DockerRootDir?: string;
}

interface RawStats {
  readonly cpu_stats?: { readonly cpu_usage?: { readonly total_usage?: number } };
  readonly memory_stats?: { readonly max_usage?: number };
}

function short(id: string): string {
  return id.length === 64 ? id.slice(0, 12) : id;
}
