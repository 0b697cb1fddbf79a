// Containers of sessions over the Docker API: long-lived, paused and stopped and started again.
import type {
  OutputConnection,
  SessionContainerFacts,
  SessionContainerRow,
  SessionContainerSpec,
  SessionContainers,
} from '../../capabilities/sessions/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import type { OutputPiece } from '../../core/output/output-log.ts';
import { SocketAttachment } from './attachment.ts';
import { containerFacts, type RawContainer, STATES } from './container-facts.ts';
import { removeContainer } from './container-removal.ts';
import type { DaemonWatch } from './daemon-watch.ts';
import { demultiplex } from './demultiplexer.ts';
import { type EngineClient, RefusedError } from './engine-client.ts';
import { localLogPieces } from './local-log.ts';
import { LogPosition } from './log-position.ts';
import { bodyOf, closing } from './response-body.ts';
import { sessionBody } from './session-config.ts';

interface RawNetworks {
  readonly Networks?: Readonly<Record<string, { readonly IPAddress?: string; readonly GlobalIPv6Address?: string }>>;
}

interface RawRow {
  readonly Id: string;
  readonly Names?: readonly string[] | null;
  readonly Labels?: Readonly<Record<string, string>> | null;
  readonly State: string;
  readonly NetworkSettings?: RawNetworks | null;
}

type RawSession = RawContainer & { readonly NetworkSettings?: RawNetworks | null };

/** As SessionContainers promises. Attachments end with the client. */
export class DockerSessionContainers implements SessionContainers, Disposable {
  readonly #client: EngineClient;
  readonly #watch: DaemonWatch;
  readonly #local: boolean;
  readonly #attachments = new Set<SocketAttachment>();

  /** @param local the engine's processes are this host's. */
  constructor(client: EngineClient, watch: DaemonWatch, local: boolean) {
    this.#client = client;
    this.#watch = watch;
    this.#local = local;
  }

  async createContainer(spec: SessionContainerSpec, signal?: AbortSignal): Promise<string> {
    const { kind } = await this.#client.version(signal);
    const created = await this.#client.json<{ readonly Id: string }>(
      {
        method: 'POST',
        path: '/containers/create',
        query: { name: spec.name },
        body: sessionBody(spec, kind),
        what: `create container ${spec.name} from ${spec.image}`,
        limitMs: this.#client.limitMs,
      },
      signal,
    );
    if (created === undefined) throw new LonglineError('internal', 'the container engine gave no container id');
    return created.Id;
  }

  async inspectContainer(idOrName: string, signal?: AbortSignal): Promise<SessionContainerFacts | undefined> {
    const what = `inspect container ${short(idOrName)}`;
    const raw = await this.#client.found<RawSession>(what, `/containers/${idOrName}/json`, signal);
    if (raw === undefined) return undefined;
    const facts = containerFacts(raw);
    const pid = this.#local && raw.State.Pid > 0 ? raw.State.Pid : undefined;
    return { ...facts, image: raw.Image, pid, addresses: addressesOf(raw.NetworkSettings) };
  }

  async listContainers(label: string, value: string, signal?: AbortSignal): Promise<readonly SessionContainerRow[]> {
    const filters = JSON.stringify({ label: [`${label}=${value}`] });
    const rows = await this.#client.json<readonly RawRow[]>(
      {
        method: 'GET',
        path: '/containers/json',
        query: { all: 'true', filters },
        what: `list containers with label ${label}=${value}`,
        limitMs: this.#client.limitMs,
      },
      signal,
    );
    return (
      (rows ?? [])
        // Podman takes a label's value for a prefix, so it is checked here.
        .filter((row) => row.Labels?.[label] === value)
        .map((row) => ({
          id: row.Id,
          name: (row.Names?.[0] ?? '').replace(/^\//, ''),
          labels: row.Labels ?? {},
          state: STATES[row.State] ?? 'dead',
          addresses: addressesOf(row.NetworkSettings),
        }))
    );
  }

  async attachOutput(id: string, terminal: boolean, signal?: AbortSignal): Promise<OutputConnection> {
    return await this.attach(id, { terminal, withInput: false }, signal);
  }

  /** A connection to the main process. */
  async attach(
    id: string,
    { terminal, withInput }: { readonly terminal: boolean; readonly withInput: boolean },
    signal?: AbortSignal,
  ): Promise<SocketAttachment> {
    const life = await this.#watch.life(signal);
    const socket = await this.#client.upgrade(
      {
        path: `/containers/${id}/attach`,
        query: { stream: '1', stdout: '1', stderr: '1', ...(withInput ? { stdin: '1' } : {}) },
        what: `attach to container ${short(id)}`,
        limitMs: this.#client.limitMs,
      },
      signal,
    );
    const attachment = new SocketAttachment(socket, withInput, {
      where: this.#client.where,
      raw: terminal,
      confirmEnd: () => this.#watch.confirm(life),
      closed: () => this.#attachments.delete(attachment),
    });
    this.#attachments.add(attachment);
    return attachment;
  }

  async *readOutput(
    id: string,
    { sinceMs, follow, terminal }: { readonly sinceMs: number; readonly follow: boolean; readonly terminal: boolean },
    signal?: AbortSignal,
  ): AsyncGenerator<OutputPiece, void, undefined> {
    const raw = await this.#client.found<RawSession>(
      `inspect container ${short(id)}`,
      `/containers/${id}/json`,
      signal,
    );
    if (raw === undefined) throw new LonglineError('not_found', `container ${short(id)} doesn't exist`);
    const inParts = raw.HostConfig?.LogConfig?.Type === 'local' && !terminal;
    const position = new LogPosition();
    yield* position.beyond(this.#kept(id, { sinceMs, follow, terminal, inParts }, signal));
    // An engine's follow may drop what it has not sent when the container ends.
    if (follow) yield* position.beyond(this.#kept(id, { sinceMs, follow: false, terminal, inParts }, signal));
  }

  async *#kept(
    id: string,
    reading: {
      readonly sinceMs: number;
      readonly follow: boolean;
      readonly terminal: boolean;
      readonly inParts: boolean;
    },
    signal: AbortSignal | undefined,
  ): AsyncGenerator<OutputPiece, void, undefined> {
    const { sinceMs, follow, terminal, inParts } = reading;
    const response = await this.#client.open(
      {
        method: 'GET',
        path: `/containers/${id}/logs`,
        query: {
          ...{ stdout: '1', stderr: '1', since: (sinceMs / 1000).toFixed(3) },
          ...(follow ? { follow: '1' } : {}),
          ...(inParts ? { timestamps: '1' } : {}),
        },
        what: `read the log of container ${short(id)}`,
        // Podman sends nothing, not even headers, before a followed container's first output.
        limitMs: follow ? undefined : this.#client.limitMs,
      },
      signal,
    );
    const chunks = bodyOf(response);
    yield* closing(
      response,
      terminal ? rawPieces(chunks) : inParts ? localLogPieces(chunks, () => false) : demultiplex(chunks),
    );
  }

  async startContainer(id: string, signal?: AbortSignal): Promise<void> {
    await this.#act('start', id, {}, 'start', this.#client.limitMs, signal);
  }

  async pauseContainer(id: string, signal?: AbortSignal): Promise<void> {
    await this.#act('pause', id, {}, 'pause', this.#client.limitMs, signal).catch(async (error: unknown) => {
      if (!(error instanceof RefusedError) || (await this.inspectContainer(id, signal))?.state !== 'paused')
        throw error;
    });
  }

  async unpauseContainer(id: string, signal?: AbortSignal): Promise<void> {
    await this.#act('unpause', id, {}, 'unpause', this.#client.limitMs, signal).catch(async (error: unknown) => {
      if (!(error instanceof RefusedError)) throw error;
      const facts = await this.inspectContainer(id, signal);
      if (facts === undefined || facts.state === 'paused') throw error;
    });
  }

  async stopContainer(id: string, graceMs: number, signal?: AbortSignal): Promise<void> {
    const seconds = Math.ceil(graceMs / 1000);
    await this.#act('stop', id, { t: String(seconds) }, 'stop', this.#client.limitMs + seconds * 1000, signal);
  }

  async removeContainer(id: string, signal?: AbortSignal): Promise<void> {
    await removeContainer(this.#client, id, signal);
  }

  async checkpointContainer(id: string, checkpoint: string, signal?: AbortSignal): Promise<void> {
    await this.#client.json(
      {
        method: 'POST',
        path: `/containers/${id}/checkpoints`,
        body: { CheckpointID: checkpoint, Exit: true },
        what: `checkpoint container ${short(id)}`,
        limitMs: 10 * this.#client.limitMs,
      },
      signal,
    );
  }

  async startCheckpoint(id: string, checkpoint: string, signal?: AbortSignal): Promise<void> {
    await this.#act('start', id, { checkpoint }, 'restore', 10 * this.#client.limitMs, signal);
  }

  [Symbol.dispose](): void {
    for (const attachment of this.#attachments) attachment.destroy();
  }

  async #act(
    action: string,
    id: string,
    query: Readonly<Record<string, string>>,
    verb: string,
    limitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const path = `/containers/${id}/${action}`;
    await this.#client.json({ method: 'POST', path, query, what: `${verb} container ${short(id)}`, limitMs }, signal);
  }
}

async function* rawPieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<OutputPiece, void, undefined> {
  for await (const data of chunks) yield { stream: 'stdout', data };
}

function addressesOf(settings: RawNetworks | null | undefined): readonly string[] {
  const networks = Object.values(settings?.Networks ?? {});
  return networks.flatMap(({ IPAddress = '', GlobalIPv6Address = '' }) =>
    [IPAddress, GlobalIPv6Address].filter((address) => address !== ''),
  );
}

function short(id: string): string {
  return id.length === 64 ? id.slice(0, 12) : id;
}
