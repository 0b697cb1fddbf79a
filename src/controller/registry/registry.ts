// The registry of programs over plain HTTP, at /registry/v1/: what agents poll, and what is loaded with curl. It serves what the
// store holds and keeps nothing itself. Operators and services come with API tokens; an agent sees its own list, and the artifacts
// in it or pushed to it, and nothing else. Every failure is JSON with "code" and "message"; nothing is thrown at the front.
import { createHash } from 'node:crypto';
import { create, toJson } from '@bufbuild/protobuf';
import {
  ListArtifactsResponseSchema,
  UploadArtifactResponseSchema,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import type { Clock } from '../../core/clock.ts';
import { describeError, invalid, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { ARTIFACT_LIMITS } from '../../core/programs/artifact.ts';
import { ARTIFACT_DIGEST, ARTIFACT_DIGEST_FORM } from '../../core/programs/program-spec.ts';
import { loggable } from '../front/errors.ts';
import type { HttpRequest, HttpResponse, RequestHandler } from '../front/http-handlers.ts';
import { requireRole } from '../identity/authorization.ts';
import { artifactBytes, notStored } from '../programs/artifact-bytes.ts';
import { type ArtifactIntake, tooLarge } from '../programs/artifact-intake.ts';
import type { PolledPrograms } from '../programs/polled-programs.ts';
import { isPolled, isWanted } from '../programs/wanted-artifacts.ts';
import { artifactView } from '../services/artifact-methods.ts';
import { pageQuery } from '../services/selector.ts';
import { shown } from '../services/shape.ts';
import type { Store } from '../store/store.ts';
import { byteRange, matchesTag } from './byte-range.ts';
import { type Asker, askerOf, header, type RegistryIdentities } from './registry-access.ts';
import { answer, refuse, sendBytes } from './registry-answer.ts';
import { readBody } from './upload-body.ts';

/** Where it is. */
export const REGISTRY_PATH = '/registry/v1/';

/** What it is made from. */
export interface RegistryParts extends RegistryIdentities {
  readonly store: Store;
  readonly intake: ArtifactIntake;
  readonly polled: PolledPrograms;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Exchange {
  readonly parts: RegistryParts;
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  readonly query: URLSearchParams;
}

type Endpoint = (exchange: Exchange, name: string) => Promise<void>;
type Methods = Readonly<Record<string, Endpoint>>;

/** Answers what is below REGISTRY_PATH, over any connection of operators or agents. */
export function registryHandler(parts: RegistryParts): RequestHandler {
  return (request, response) => {
    serve(parts, request, response).catch((thrown: unknown) => {
      const path = request.url?.split('?', 1)[0];
      if (loggable(thrown)) parts.log.error('registry request failed', { path, err: describeError(thrown) });
      if (response.headersSent) response.destroy();
      else refuse(request, response, toLonglineError(thrown));
    });
  };
}

async function serve(parts: RegistryParts, request: HttpRequest, response: HttpResponse): Promise<void> {
  const [path = '', query = ''] = (request.url ?? '').split('?', 2);
  const found = path.startsWith(REGISTRY_PATH) ? find(path) : undefined;
  if (found === undefined) throw new LonglineError('not_found', `the registry has nothing at ${path.slice(0, 200)}`);
  const { methods, name } = found;
  const endpoint = Object.hasOwn(methods, request.method ?? '') ? methods[request.method!] : undefined;
  if (endpoint === undefined) {
    const allow = Object.keys(methods).join(', ');
    const message = `${request.method} is not answered here; right would be ${allow}`;
    answer(request, response, 405, { allow }, JSON.stringify({ code: 'unimplemented', message }));
    return;
  }
  await endpoint({ parts, request, response, query: new URLSearchParams(query) }, name);
}

function find(path: string): { readonly methods: Methods; readonly name: string } | undefined {
  const [first = '', second, third, ...more] = path.slice(REGISTRY_PATH.length).split('/').map(decoded);
  if (more.length > 0) return undefined;
  if (first === 'healthz' && second === undefined) return { methods: HEALTH, name: '' };
  if (first === 'artifacts' && second === undefined) return { methods: ARTIFACTS, name: '' };
  if (first === 'artifacts' && third === undefined) return { methods: ARTIFACT, name: second ?? '' };
  return first === 'hosts' && third === 'programs' ? { methods: HOST_PROGRAMS, name: second ?? '' } : undefined;
}

/** Names are compared and looked up, never joined to a path: what they hold can't lead anywhere. */
function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new LonglineError('invalid', `${shown(segment)} in the path is not percent-encoded as it should be`);
  }
}

const HEALTH: Methods = { GET: health, HEAD: health };
const ARTIFACTS: Methods = { GET: listArtifacts, HEAD: listArtifacts, PUT: putArtifact };
const ARTIFACT: Methods = { GET: getArtifact, HEAD: getArtifact };
const HOST_PROGRAMS: Methods = { GET: hostPrograms, HEAD: hostPrograms };

/** Tells nothing but that somebody is here, so anybody may ask. */
async function health({ request, response }: Exchange): Promise<void> {
  answer(request, response, 200, {}, JSON.stringify({ status: 'ok' }));
}

async function hostPrograms({ parts, request, response }: Exchange, hostId: string): Promise<void> {
  const asker = await askerOf(request, parts);
  if (asker.kind === 'token') {
    requireRole(asker.caller, 'viewer', 'reading a list of programs');
    if ((await parts.store.agents.get(hostId)) === undefined) {
      throw new LonglineError('not_found', `no agent has id ${shown(hostId)}`);
    }
  } else if (asker.agentId !== hostId) {
    throw new LonglineError(
      'policy',
      `agent ${asker.agentId} may read its own list only, not that of ${shown(hostId)}`,
    );
  }
  const programs = (await parts.polled(hostId)).map((spec) => toJson(ProgramSpecSchema, spec));
  const body = JSON.stringify({ programs });
  const etag = `"${createHash('sha256').update(body).digest('hex')}"`;
  if (matchesTag(header(request.headers, 'if-none-match'), etag)) answer(request, response, 304, { etag });
  else answer(request, response, 200, { etag }, body);
}

async function listArtifacts({ parts, query, request, response }: Exchange): Promise<void> {
  operatorOnly(await askerOf(request, parts), 'viewer', 'listing artifacts');
  const pageSize = Number(query.get('page_size') ?? 0);
  if (!Number.isInteger(pageSize)) {
    throw invalid([
      { field: 'page_size', description: `${shown(query.get('page_size') ?? '')} must be a whole number` },
    ]);
  }
  const page = pageQuery({ pageSize, pageToken: query.get('page_token') ?? '' });
  const { items, nextPageToken } = await parts.store.artifacts.list({ name: query.get('name') ?? '', ...page });
  const message = create(ListArtifactsResponseSchema, { artifacts: items.map(artifactView), nextPageToken });
  const json = toJson(ListArtifactsResponseSchema, message) as object;
  answer(request, response, 200, {}, JSON.stringify({ artifacts: [], ...json }));
}

async function putArtifact({ parts, request, response }: Exchange): Promise<void> {
  operatorOnly(await askerOf(request, parts), 'operator', 'uploading an artifact');
  if (Number(header(request.headers, 'content-length') ?? 0) > ARTIFACT_LIMITS.compressedBytes) throw tooLarge();
  using upload = parts.intake.begin();
  await readBody(request, (piece) => upload.take(piece), parts.clock);
  const { artifact, created } = await upload.finish();
  const message = create(UploadArtifactResponseSchema, { artifact: artifactView(artifact), created });
  const json = toJson(UploadArtifactResponseSchema, message) as object;
  const location = `${REGISTRY_PATH}artifacts/${artifact.digest}`;
  answer(request, response, created ? 201 : 200, { location }, JSON.stringify({ created, ...json }));
}

async function getArtifact({ parts, request, response }: Exchange, digest: string): Promise<void> {
  const asker = await askerOf(request, parts);
  if (!ARTIFACT_DIGEST.test(digest)) {
    throw invalid([{ field: 'digest', description: `${shown(digest)} must be ${ARTIFACT_DIGEST_FORM}` }]);
  }
  await mayRead(parts, asker, digest);
  const artifact = await parts.store.artifacts.get(digest);
  if (artifact === undefined) throw notStored(digest);
  const { size } = artifact;
  const etag = `"${digest}"`;
  const common = { etag, 'accept-ranges': 'bytes', 'content-type': 'application/zstd' };
  const { headers } = request;
  if (matchesTag(header(headers, 'if-none-match'), etag)) return answer(request, response, 304, { etag });
  const ifRange = header(headers, 'if-range');
  const asked = request.method === 'GET' && (ifRange === undefined || ifRange === etag) ? headers.range : undefined;
  const range = byteRange(asked, size);
  if (range.kind === 'beyond') {
    const message = `range: ${shown(headers.range ?? '')} is not in the artifact, which has ${size} bytes`;
    const unsatisfied = { ...common, 'content-range': `bytes */${size}` };
    const body = JSON.stringify({ code: 'out_of_range', message });
    return answer(request, response, 416, { ...unsatisfied, 'content-type': 'application/json' }, body);
  }
  const { start, end } = range.kind === 'part' ? range : { start: 0, end: size };
  const part = range.kind === 'part' ? { 'content-range': `bytes ${start}-${end - 1}/${size}` } : {};
  const sent = { ...common, ...part, 'content-length': end - start };
  if (request.method === 'HEAD') return answer(request, response, 200, sent);
  const bytes = artifactBytes(parts.store.artifacts, digest, start, end);
  await sendBytes(response, range.kind === 'part' ? 206 : 200, sent, bytes, parts.clock);
}

/** An agent learns nothing of artifacts that aren't for it, not even whether they are there. */
async function mayRead({ store, polled }: RegistryParts, asker: Asker, digest: string): Promise<void> {
  if (asker.kind === 'token') {
    requireRole(asker.caller, 'viewer', 'reading an artifact');
    return;
  }
  const { agentId } = asker;
  if ((await isWanted(store, agentId, digest)) || (await isPolled(polled, agentId, digest))) return;
  throw new LonglineError('policy', `no program of agent ${agentId} has artifact ${digest}`);
}

function operatorOnly(asker: Asker, role: 'viewer' | 'operator', what: string): void {
  if (asker.kind === 'token') requireRole(asker.caller, role, what);
  else throw notForAgents(asker.agentId, role, what);
}

function notForAgents(agentId: string, role: string, what: string): LonglineError {
  return new LonglineError('policy', `${what} takes an API token with role ${role}; agent ${agentId} has none`);
}
