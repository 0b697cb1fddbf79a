// SessionEngine over the Docker API, for Docker (20.10 and newer) and Podman's compatible socket (4.x and newer), put
// together from one part for each port. Must not know sessions: what to make, keep or wake is decided elsewhere. Every
// call ends within its limit, with a LonglineError if it fails; `unavailable` means that the daemon was not there or was
// lost, and says nothing about the container.
import { statfs } from 'node:fs/promises';
import type {
  DiskSpace,
  MeasuredContainer,
  ProbeTarget,
  ResourceReading,
  SessionContainerSpec,
  SessionEngine,
  SessionEngineEvent,
  SessionEngineFacts,
  SessionNetworkSpec,
  SessionVolumeSpec,
  StoredImage,
} from '../../capabilities/sessions/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import type { RegistryCredentials } from '../../core/images/image.ts';
import type { SessionCommand } from '../../core/session-access.ts';
import { checkpointMissing } from './checkpoint-support.ts';
import { DaemonWatch } from './daemon-watch.ts';
import type { EngineAddress } from './engine-address.ts';
import { EngineClient, RefusedError } from './engine-client.ts';
import { openEvents, sessionEvents } from './engine-events.ts';
import { ImageStore } from './image-store.ts';
import { DockerResourceMeter } from './resource-meter.ts';
import { bodyOf, closing } from './response-body.ts';
import { DockerSessionContainers } from './session-containers.ts';
import { DockerNetworksAndVolumes } from './session-networks.ts';
import { sessionProbes } from './session-probes.ts';
import { DockerSessionProcesses } from './session-processes.ts';

const CALL_LIMIT_MS = 30_000;
const PULL_STALL_MS = 120_000;

interface RawInfo {
  readonly Runtimes?: Readonly<Record<string, unknown>>;
  readonly DefaultRuntime?: string;
  readonly DockerRootDir?: string;
  readonly ExperimentalBuild?: boolean;
}

interface RawImage {
  readonly Id: string;
  readonly Size: number;
}

/** The engine at an address. Makes no connection before its first call. Dispose ends calls and streams under way. */
export class DockerSessionEngine implements SessionEngine {
  readonly #client: EngineClient;
  readonly #watch: DaemonWatch;
  readonly #containers: DockerSessionContainers;
  readonly #places: DockerNetworksAndVolumes;
  readonly #processes: DockerSessionProcesses;
  readonly #images: ImageStore;
  readonly #meter: DockerResourceMeter;
  readonly #local: boolean;

  constructor(address: EngineAddress, callLimitMs = CALL_LIMIT_MS) {
    this.#local = address.kind === 'unix';
    this.#client = new EngineClient(address, callLimitMs);
    this.#watch = new DaemonWatch(this.#client);
    this.#containers = new DockerSessionContainers(this.#client, this.#watch, this.#local);
    this.#places = new DockerNetworksAndVolumes(this.#client);
    this.#processes = new DockerSessionProcesses(this.#client, this.#watch, this.#containers, this.#local);
    this.#images = new ImageStore(this.#client, PULL_STALL_MS);
    this.#meter = new DockerResourceMeter(this.#client);
  }

  async sessionFacts(signal?: AbortSignal): Promise<SessionEngineFacts> {
    const info = await this.#info(signal);
    const { kind, version } = await this.#client.version(signal);
    const ground = { kind, experimental: info.ExperimentalBuild === true, local: this.#local };
    return {
      kind,
      version,
      runtimes: kind === 'podman' ? [info.DefaultRuntime ?? ''] : Object.keys(info.Runtimes ?? {}).sort(),
      defaultRuntime: info.DefaultRuntime ?? '',
      checkpointMissing: await checkpointMissing(ground),
    };
  }

  async createContainer(spec: SessionContainerSpec, signal?: AbortSignal) {
    const { kind } = await this.#client.version(signal);
    if (kind === 'podman' && spec.runtime !== '') await this.#refuseOtherRuntime(spec.runtime, signal);
    return await this.#containers.createContainer(spec, signal);
  }

  async inspectContainer(idOrName: string, signal?: AbortSignal) {
    return await this.#containers.inspectContainer(idOrName, signal);
  }

  async listContainers(label: string, value: string, signal?: AbortSignal) {
    return await this.#containers.listContainers(label, value, signal);
  }

  async attachOutput(id: string, terminal: boolean, signal?: AbortSignal) {
    return await this.#containers.attachOutput(id, terminal, signal);
  }

  readOutput(
    id: string,
    options: { readonly sinceMs: number; readonly follow: boolean; readonly terminal: boolean },
    signal?: AbortSignal,
  ) {
    return this.#containers.readOutput(id, options, signal);
  }

  async startContainer(id: string, signal?: AbortSignal) {
    await this.#containers.startContainer(id, signal);
  }

  async pauseContainer(id: string, signal?: AbortSignal) {
    await this.#containers.pauseContainer(id, signal);
  }

  async unpauseContainer(id: string, signal?: AbortSignal) {
    await this.#containers.unpauseContainer(id, signal);
  }

  async stopContainer(id: string, graceMs: number, signal?: AbortSignal) {
    await this.#containers.stopContainer(id, graceMs, signal);
  }

  async removeContainer(id: string, signal?: AbortSignal) {
    await this.#containers.removeContainer(id, signal);
  }

  async checkpointContainer(id: string, checkpoint: string, signal?: AbortSignal) {
    await this.#containers.checkpointContainer(id, checkpoint, signal);
  }

  async startCheckpoint(id: string, checkpoint: string, signal?: AbortSignal) {
    await this.#containers.startCheckpoint(id, checkpoint, signal);
  }

  async findNetwork(name: string, signal?: AbortSignal) {
    return await this.#places.findNetwork(name, signal);
  }

  async listNetworks(signal?: AbortSignal) {
    return await this.#places.listNetworks(signal);
  }

  async createNetwork(spec: SessionNetworkSpec, signal?: AbortSignal) {
    await this.#places.createNetwork(spec, signal);
  }

  async removeNetwork(name: string, signal?: AbortSignal) {
    await this.#places.removeNetwork(name, signal);
  }

  async findVolume(name: string, signal?: AbortSignal) {
    return await this.#places.findVolume(name, signal);
  }

  async listVolumes(label: string, value: string, signal?: AbortSignal) {
    return await this.#places.listVolumes(label, value, signal);
  }

  async createVolume(spec: SessionVolumeSpec, signal?: AbortSignal) {
    await this.#places.createVolume(spec, signal);
  }

  async removeVolume(name: string, signal?: AbortSignal) {
    await this.#places.removeVolume(name, signal);
  }

  async execute(containerId: string, command: SessionCommand, signal?: AbortSignal) {
    return await this.#processes.execute(containerId, command, signal);
  }

  async attachMain(
    containerId: string,
    options: { readonly terminal: boolean; readonly withInput: boolean },
    signal?: AbortSignal,
  ) {
    return await this.#processes.attachMain(containerId, options, signal);
  }

  async readResources(
    containers: readonly MeasuredContainer[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, ResourceReading>> {
    return await this.#meter.readResources(containers, signal);
  }

  async *sessionEvents(signal: AbortSignal): AsyncGenerator<SessionEngineEvent, void, undefined> {
    const response = await openEvents(this.#client, signal);
    yield* closing(response, sessionEvents(bodyOf(response)));
  }

  async probeTcp(target: ProbeTarget, port: number, limitMs: number, signal?: AbortSignal): Promise<void> {
    await sessionProbes.probeTcp(target, port, limitMs, signal);
  }

  async probeHttp(target: ProbeTarget, port: number, path: string, limitMs: number, signal?: AbortSignal) {
    return await sessionProbes.probeHttp(target, port, path, limitMs, signal);
  }

  async findImage(reference: string, signal?: AbortSignal) {
    return await this.#images.find(reference, signal);
  }

  pullImage(reference: string, credentials: RegistryCredentials | undefined, signal?: AbortSignal) {
    return this.#images.pull(reference, credentials, signal);
  }

  async listImages(signal?: AbortSignal): Promise<readonly StoredImage[]> {
    const raw = await this.#client.found<readonly RawImage[]>('list images', '/images/json', signal);
    return (raw ?? []).map(({ Id, Size }) => ({
      id: Id.startsWith('sha256:') ? Id : `sha256:${Id}`,
      sizeBytes: Size,
    }));
  }

  async removeImage(id: string, signal?: AbortSignal): Promise<void> {
    const request = { method: 'DELETE', path: `/images/${id}`, what: `remove image ${id}` } as const;
    try {
      await this.#client.json({ ...request, limitMs: this.#client.limitMs }, signal);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      if (error.reason === 'not_found') return;
      if (error.refusal.status === 409 || /in use|being used|must be forced/i.test(error.refusal.message)) {
        throw new LonglineError('wrong_state', error.message, { retryable: true });
      }
      throw error;
    }
  }

  async imageDisk(signal?: AbortSignal): Promise<DiskSpace | undefined> {
    const root = this.#local ? (await this.#info(signal)).DockerRootDir : undefined;
    if (root === undefined || root === '') return undefined;
    try {
      const { blocks, bavail, bsize } = await statfs(root);
      return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
    } catch {
      // The engine's folder is not this process's to see, as when the agent runs in a container.
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#containers[Symbol.dispose]();
    this.#watch[Symbol.dispose]();
    this.#client[Symbol.dispose]();
  }

  async #info(signal?: AbortSignal): Promise<RawInfo> {
    return (await this.#client.found<RawInfo>('ask for facts', '/info', signal)) ?? {};
  }

  /** Podman's compatible API ignores the runtime: a session that asks for gVisor would run without it. */
  async #refuseOtherRuntime(runtime: string, signal?: AbortSignal): Promise<void> {
    const { DefaultRuntime: own = '' } = await this.#info(signal);
    if (runtime === own) return;
    const message = `runtime ${JSON.stringify(runtime)}: this podman runs containers with ${JSON.stringify(own)} only`;
    throw new LonglineError('unsupported', message);
  }
}
