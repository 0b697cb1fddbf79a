// The BPF registry of AegisFlux. It lists artifacts by ids of its own, with a checksum over the archive, and stores whatever archive it is
// given: artifacts must be in our format, and are checked by the signatures inside. Its own signature is over the archive and made
// by a service that a host can't check it against: it counts for nothing here. Where to attach and parameters, which it has no
// place for, are taken from its free metadata.
import type { RefusedListing } from '../../capabilities/programs/ports.ts';
import { invalid, LonglineError } from '../../core/errors.ts';
import { MAX_ARTIFACT_BYTES } from '../../core/programs/artifact-source.ts';
import { isObject, type ListedProgram, MAX_LISTED, nameIn, type RegistryDialect } from './dialect.ts';

type Fields = Readonly<Record<string, unknown>>;

/** GET healthz, artifacts/for-host/{host_id}, artifacts/{id}/binary. */
export const aegisfluxDialect: RegistryDialect = {
  healthPath: 'healthz',
  listPath: (hostId) => `artifacts/for-host/${encodeURIComponent(hostId)}`,
  artifactPath: () => undefined,
  readList: (body) => {
    const artifacts = artifactsOf(body);
    const refused: RefusedListing[] = [];
    const paths = new Map<string, string>();
    const byName = new Map<string, Understood>();
    for (const [position, artifact] of artifacts.entries()) {
      const item = itemOf(artifact, position);
      try {
        const understood = understand(artifact, item);
        paths.set(understood.digest, `artifacts/${understood.id}/binary`);
        const rival = byName.get(understood.name);
        const older = rival !== undefined && rival.timeMs > understood.timeMs ? understood : rival;
        if (older !== understood) byName.set(understood.name, understood);
        if (older !== undefined) refused.push({ item: older.program.item, error: superseded(older) });
      } catch (error) {
        if (!(error instanceof LonglineError)) throw error;
        refused.push({ item, program: nameIn(artifact), error });
      }
    }
    return { programs: [...byName.values()].map(({ program }) => program), refused, paths };
  },
};

interface Understood {
  readonly program: ListedProgram;
  readonly id: string;
  readonly name: string;
  readonly digest: string;
  readonly timeMs: number;
}

/** One that says to hold more than it does was cut: taking it at its word would unload what is missing. */
function artifactsOf(body: unknown): readonly unknown[] {
  const artifacts = isObject(body) ? body['artifacts'] : undefined;
  if (!Array.isArray(artifacts)) {
    throw new LonglineError('unavailable', 'the registry sent no list: it must be {"artifacts": […], "total": N}');
  }
  const total = (body as Fields)['total'];
  if (total !== undefined && total !== artifacts.length) {
    const said = JSON.stringify(total)?.slice(0, 50);
    throw new LonglineError(
      'unavailable',
      `the registry lists ${artifacts.length} artifacts and says that there are ${said}`,
    );
  }
  if (artifacts.length > MAX_LISTED) {
    throw new LonglineError(
      'unavailable',
      `the registry lists ${artifacts.length} artifacts; at most ${MAX_LISTED} are taken`,
    );
  }
  return artifacts;
}

function itemOf(artifact: unknown, position: number): string {
  const fields = isObject(artifact) ? artifact : {};
  const id = idOf(fields);
  return typeof id === 'string' && id !== '' ? id.slice(0, 100) : `artifacts[${position}]`;
}

/** The registry writes "id", what its agent reads is "artifact_id". */
function idOf(fields: Fields): unknown {
  return fields['id'] ?? fields['artifact_id'];
}

function understand(artifact: unknown, item: string): Understood {
  if (!isObject(artifact)) throw wrong('', 'is no object');
  const { name, checksum, size } = artifact;
  const id = idOf(artifact);
  if (typeof id !== 'string' || !/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$/.test(id)) {
    throw wrong('id', 'must be 1 to 200 of A-Z a-z 0-9 . _ -');
  }
  if (typeof name !== 'string' || name === '') throw wrong('name', 'is missing');
  const hex =
    typeof checksum === 'string' ? /^(?:sha256:)?([0-9a-f]{64})$/i.exec(checksum)?.[1]?.toLowerCase() : undefined;
  if (hex === undefined) throw wrong('checksum', 'must be the SHA-256 of the archive in 64 hex digits');
  if (typeof size === 'number' && size > MAX_ARTIFACT_BYTES) {
    const message = `size: is ${size} bytes; at most ${MAX_ARTIFACT_BYTES} are taken`;
    throw new LonglineError('limit', message, { retryable: false });
  }
  const digest = `sha256:${hex}`;
  const metadata = isObject(artifact['metadata']) ? artifact['metadata'] : {};
  const ttl = secondsOf(artifact['ttl_sec'] ?? metadata['ttl_sec']);
  const attach = typeof metadata['attach'] === 'string' ? metadata['attach'].split(',').map((one) => one.trim()) : [];
  const parameters = { ...parametersOf(artifact['parameters']), ...parametersOf(ofPrefix(metadata, 'param.')) };
  const spec = { name, artifact: digest, attach, parameters, ...(ttl === undefined ? {} : { ttl }) };
  return { program: { item, spec }, id, name, digest, timeMs: timeOf(artifact) };
}

function timeOf(artifact: Fields): number {
  const time = artifact['updated_at'] ?? artifact['created_at'];
  const ms = typeof time === 'string' ? Date.parse(time) : Number.NaN;
  return Number.isNaN(ms) ? 0 : ms;
}

/** As a duration of ProtoJSON. */
function secondsOf(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  const seconds = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  if (Number.isSafeInteger(seconds) && (seconds as number) >= 0) return `${seconds}s`;
  throw wrong('ttl_sec', 'must be a whole number of seconds');
}

function parametersOf(values: unknown): Record<string, string> {
  if (values === undefined || values === null) return {};
  if (!isObject(values)) throw wrong('parameters', 'must be an object');
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      if (!['string', 'number', 'boolean'].includes(typeof value)) {
        throw wrong(`parameters.${name.slice(0, 100)}`, 'must be text, a number, true or false');
      }
      return [name, String(value)];
    }),
  );
}

function ofPrefix(metadata: Fields, prefix: string): Fields {
  const named = Object.entries(metadata).filter(([key]) => key.startsWith(prefix));
  return Object.fromEntries(named.map(([key, value]) => [key.slice(prefix.length), value]));
}

function wrong(field: string, description: string): LonglineError {
  return invalid([{ field, description }]);
}

function superseded({ name }: Understood): LonglineError {
  const message = `a newer artifact for program ${name.slice(0, 100)} is assigned to this host, and a host has one of a name`;
  return new LonglineError('already_exists', message);
}
