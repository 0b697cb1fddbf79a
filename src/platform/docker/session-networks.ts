// Networks and volumes of sessions over the Docker API.
import type {
  NamedThing,
  SessionNetworkFacts,
  SessionNetworkSpec,
  SessionNetworks,
  SessionVolumeSpec,
  SessionVolumes,
} from '../../capabilities/sessions/ports.ts';
import { LonglineError, type Reason } from '../../core/errors.ts';
import { type EngineClient, RefusedError } from './engine-client.ts';

interface RawNetwork {
  readonly Name: string;
  readonly Labels?: Readonly<Record<string, string>> | null;
  readonly Internal?: boolean;
  readonly IPAM?: { readonly Config?: readonly { readonly Subnet?: string }[] | null } | null;
}

interface RawVolume {
  readonly Name: string;
  readonly Labels?: Readonly<Record<string, string>> | null;
}

/** As SessionNetworks and SessionVolumes promise. */
export class DockerNetworksAndVolumes implements SessionNetworks, SessionVolumes {
  readonly #client: EngineClient;

  constructor(client: EngineClient) {
    this.#client = client;
  }

  async findNetwork(name: string, signal?: AbortSignal): Promise<SessionNetworkFacts | undefined> {
    const raw = await this.#client.found<RawNetwork>(`look for network ${name}`, `/networks/${name}`, signal);
    // Docker also takes the beginning of an id.
    return raw?.Name === name ? networkFacts(raw) : undefined;
  }

  async listNetworks(signal?: AbortSignal): Promise<readonly SessionNetworkFacts[]> {
    const raw = await this.#client.found<readonly RawNetwork[]>('list networks', '/networks', signal);
    return (raw ?? []).map(networkFacts);
  }

  async createNetwork(spec: SessionNetworkSpec, signal?: AbortSignal): Promise<void> {
    const body = {
      Name: spec.name,
      CheckDuplicate: true,
      Driver: 'bridge',
      Internal: spec.internal,
      Labels: spec.labels,
      ...(spec.subnet === undefined ? {} : { IPAM: { Driver: 'default', Config: [{ Subnet: spec.subnet }] } }),
    };
    await this.#do('POST', '/networks/create', body, `create network ${spec.name}`, signal).catch(
      rethrow([
        [/already exists|network name .* already used/i, 'already_exists'],
        [/overlaps|already used|subnet .* is used|no available|could not find an available|address space/i, 'limit'],
      ]),
    );
  }

  async removeNetwork(name: string, signal?: AbortSignal): Promise<void> {
    await this.#do('DELETE', `/networks/${name}`, undefined, `remove network ${name}`, signal).catch(
      rethrow([
        [/active endpoints|being used|has associated containers|in use/i, 'wrong_state'],
        [/not found|no such network|unable to find network/i, undefined],
      ]),
    );
  }

  async findVolume(name: string, signal?: AbortSignal): Promise<NamedThing | undefined> {
    const raw = await this.#client.found<RawVolume>(`look for volume ${name}`, `/volumes/${name}`, signal);
    return raw?.Name === name ? named(raw) : undefined;
  }

  async listVolumes(label: string, value: string, signal?: AbortSignal): Promise<readonly NamedThing[]> {
    const filters = encodeURIComponent(JSON.stringify({ label: [`${label}=${value}`] }));
    const path = `/volumes?filters=${filters}`;
    const raw = await this.#client.found<{ readonly Volumes?: readonly RawVolume[] | null }>(
      `list volumes with label ${label}=${value}`,
      path,
      signal,
    );
    return (raw?.Volumes ?? []).map(named).filter(({ labels }) => labels[label] === value);
  }

  async createVolume(spec: SessionVolumeSpec, signal?: AbortSignal): Promise<void> {
    // Podman takes the size and does nothing about it on most file systems, so that the limit would be no limit.
    if (spec.quotaBytes > 0 && (await this.#client.version(signal)).kind === 'podman') {
      throw new LonglineError(
        'unsupported',
        `volume ${spec.name}: Podman does not hold to a quota of ${spec.quotaBytes} bytes`,
      );
    }
    const size: Record<string, string> = spec.quotaBytes > 0 ? { size: String(spec.quotaBytes) } : {};
    const body = {
      Name: spec.name,
      Driver: spec.driver,
      DriverOpts: { ...size, ...spec.options },
      Labels: spec.labels,
    };
    await this.#do('POST', '/volumes/create', body, `create volume ${spec.name}`, signal).catch((error: unknown) => {
      if (!(error instanceof RefusedError)) throw error;
      const { message } = error.refusal;
      if (spec.quotaBytes > 0 && /quota|size|option/i.test(message)) {
        throw new LonglineError(
          'unsupported',
          `volume ${spec.name}: driver ${spec.driver} can't hold to a quota of ${spec.quotaBytes} bytes here: ${message}`,
        );
      }
      if (/plugin|driver/i.test(message) && /not found|no such/i.test(message)) {
        throw new LonglineError('invalid', `volume ${spec.name}: there is no volume driver ${spec.driver}: ${message}`);
      }
      throw error;
    });
  }

  async removeVolume(name: string, signal?: AbortSignal): Promise<void> {
    await this.#do('DELETE', `/volumes/${name}`, undefined, `remove volume ${name}`, signal).catch(
      rethrow([
        [/in use|being used/i, 'wrong_state'],
        [/no such volume|not found/i, undefined],
      ]),
    );
  }

  async #do(
    method: 'POST' | 'DELETE',
    path: string,
    body: object | undefined,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const request = { method, path, what, limitMs: this.#client.limitMs, ...(body === undefined ? {} : { body }) };
    await this.#client.json(request, signal);
  }
}

/** Gives a refusal another reason by what it says; undefined takes it for no error. */
function rethrow(table: readonly (readonly [RegExp, Reason | undefined])[]): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof RefusedError)) throw error;
    for (const [pattern, reason] of table) {
      if (!pattern.test(error.refusal.message)) continue;
      if (reason === undefined) return;
      throw new LonglineError(reason, error.message, { retryable: reason === 'wrong_state' });
    }
    throw error;
  };
}

function networkFacts(raw: RawNetwork): SessionNetworkFacts {
  const subnets = (raw.IPAM?.Config ?? []).map(({ Subnet }) => Subnet ?? '').filter((subnet) => subnet !== '');
  return { ...named(raw), subnets, internal: raw.Internal === true };
}

function named(raw: { readonly Name: string; readonly Labels?: Readonly<Record<string, string>> | null }): NamedThing {
  return { name: raw.Name, labels: raw.Labels ?? {} };
}
