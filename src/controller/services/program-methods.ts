// The methods of ProgramService for programs of single agents, and for reading all of them. What carries a change to its agent is
// woken over the bus, and what agents say comes through the store.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import {
  type ListProgramsRequest,
  type Program,
  ProgramSchema,
  type ProgramService,
  type PutProgramRequest,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { ProgramMetadataSchema, type ProgramSpec, ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { readMetadata } from '../../core/programs/metadata-message.ts';
import { programSpecMessage, readProgramSpec } from '../../core/programs/program-spec.ts';
import { resolveSpec } from '../../core/programs/resolved-spec.ts';
import { noArtifact, type ProgramChanges, type ProgramEdit, programHash } from '../programs/program-changes.ts';
import type { ProgramRecord } from '../store/program.ts';
import { decodePageToken, encodePageToken } from '../store/sqlite/page-token.ts';
import type { Store } from '../store/store.ts';
import { agentIdViolations, requireAgent } from './agent-lookup.ts';
import { agentsFrom, checkedFilter, meets, programNameViolations } from './program-filter.ts';
import { nameOf, type ProgramViewerParts, programsOf } from './program-views.ts';
import { watchPrograms } from './program-watch.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

/** Programs that one agent may be asked for. How many it takes at once is for its host to say. */
const MAX_OF_AGENT = 256;

/** Agents that are looked at for one page: beyond, the page ends early. */
const MAX_AGENTS_LOOKED_AT = 1000;

/** Agents that are read before others have their turn. */
const AGENTS_IN_A_ROW = 32;

/** What the methods are made from. */
export interface ProgramParts extends ServiceDependencies, ProgramViewerParts {
  readonly changes: ProgramChanges;
}

type ProgramMethods = Pick<
  ServiceImpl<typeof ProgramService>,
  'putProgram' | 'deleteProgram' | 'getProgram' | 'listPrograms' | 'watchPrograms'
>;

/**
 * A spec in the one form that is stored, checked against the artifact that it wants. Throws `invalid` with every field, below
 * `path`, and `wrong_state` if the artifact isn't stored.
 */
export async function shapeProgram(
  store: Pick<Store, 'artifacts'>,
  asked: ProgramSpec,
  path: string,
): Promise<ProgramSpec> {
  const spec = readProgramSpec(asked, `${path}.`);
  const artifact = await store.artifacts.get(spec.artifact);
  if (artifact === undefined) throw noArtifact(spec.artifact);
  try {
    resolveSpec(spec, readMetadata(fromBinary(ProgramMetadataSchema, artifact.metadata)));
  } catch (error) {
    if (!(error instanceof LonglineError) || error.reason !== 'invalid') throw error;
    throw invalid(error.violations.map(({ field, description }) => ({ field: `${path}.${field}`, description })));
  }
  const { ttl, thresholds, ...message } = programSpecMessage(spec);
  return create(ProgramSpecSchema, {
    ...message,
    attach: [...message.attach],
    ...(ttl && { ttl }),
    ...(thresholds && { thresholds: definedOf(thresholds) }),
  });
}

/** Without the keys that are there and undefined, which a message takes for set. */
function definedOf<T extends object>(from: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(from).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}

async function putProgram(
  parts: ProgramParts,
  request: PutProgramRequest,
): Promise<{ readonly program: Program; readonly changed: boolean }> {
  const { agentId, validateOnly } = request;
  const { store } = parts;
  const violations: FieldViolation[] = [...agentIdViolations(agentId, 'agent_id')];
  if (request.spec === undefined) violations.push({ field: 'spec', description: 'is missing' });
  if (violations.length > 0) throw invalid(violations);
  await requireAgent(store, agentId);
  const spec = await shapeProgram(store, request.spec!, 'spec');
  const { name } = spec;
  // Also of agents that it doesn't pick yet: it may any time.
  if ((await store.assignments.get(name)) !== undefined) throw ruled(agentId, name);
  const polled = (await parts.polled(agentId)).some((one) => one.name === name);
  const edit = { kind: 'put' as const, assignment: '', spec, hash: programHash(spec) };
  const decide = (programs: readonly ProgramRecord[]): readonly ProgramEdit[] => {
    const other = programs.find((one) => one.name === name && !one.removing);
    if (polled || (other !== undefined && other.assignment !== '')) throw ruled(agentId, name);
    if (other === undefined && programs.filter(({ removing }) => !removing).length >= MAX_OF_AGENT) {
      throw new LonglineError(
        'limit',
        `agent ${agentId} has ${MAX_OF_AGENT} programs already, the most that are taken`,
        {
          retryable: false,
        },
      );
    }
    return [edit];
  };
  if (validateOnly) return await onlyChecked(parts, agentId, spec, edit.hash, decide);
  const changed = await parts.changes.apply(agentId, decide);
  return { program: await currentProgram(parts, agentId, name), changed };
}

async function onlyChecked(
  { clock, store }: ProgramParts,
  agentId: string,
  spec: ProgramSpec,
  hash: Uint8Array,
  decide: (programs: readonly ProgramRecord[]) => unknown,
): Promise<{ readonly program: Program; readonly changed: boolean }> {
  const programs = await store.programs.ofAgent(agentId);
  decide(programs);
  const before = programs.find(({ name, removing }) => name === spec.name && !removing);
  const changed = before === undefined || Buffer.compare(before.specHash, hash) !== 0;
  const updateTime = timestampFromMs(before?.updatedAtMs ?? clock.now());
  return {
    program: create(ProgramSchema, { agentId, spec, generation: before?.generation ?? 0n, updateTime }),
    changed,
  };
}

function ruled(agentId: string, name: string): LonglineError {
  const message = `program ${name} of agent ${agentId} is ruled by assignment ${name}; change that, or take another name`;
  return new LonglineError('wrong_state', message);
}

async function deleteProgram(parts: ProgramParts, agentId: string, name: string): Promise<Program> {
  checkNames(agentId, name);
  const record = await parts.store.programs.get(agentId, name);
  if (record === undefined) {
    // One that it has from elsewhere is there, and not taken away from here.
    const { assignment } = await currentProgram(parts, agentId, name);
    if (assignment !== '') throw ruled(agentId, name);
    const message = `program ${name} of agent ${agentId} was not asked for here; take it away where it comes from`;
    throw new LonglineError('wrong_state', message);
  }
  await parts.changes.apply(agentId, (programs) => {
    const found = programs.find((one) => one.name === name);
    if (found !== undefined && found.assignment !== '' && !found.removing) throw ruled(agentId, name);
    return [{ kind: 'remove', name }];
  });
  return await currentProgram(parts, agentId, name);
}

function checkNames(agentId: string, name: string): void {
  const violations = [...agentIdViolations(agentId, 'agent_id'), ...programNameViolations(name, 'name')];
  if (violations.length > 0) throw invalid(violations);
}

async function currentProgram(parts: ProgramParts, agentId: string, name: string): Promise<Program> {
  const found = (await programsOf(parts, agentId)).find((program) => nameOf(program) === name);
  if (found === undefined) throw new LonglineError('not_found', `agent ${agentId} has no program ${name}`);
  return found;
}

async function listPrograms(parts: ProgramParts, request: ListProgramsRequest) {
  const filter = checkedFilter(request.filter);
  const { pageSize, pageToken } = pageQuery(request);
  const [afterAgent = '', afterName = ''] = (decodePageToken(pageToken) ?? '').split('\n');
  const programs: Program[] = [];
  let looked = 0;
  for await (const agentId of agentsFrom(parts.store, filter, afterAgent)) {
    looked += 1;
    // Its token is that of the first that was not looked at: no name comes before the empty one.
    if (looked > MAX_AGENTS_LOOKED_AT) return { programs, nextPageToken: encodePageToken(`${agentId}\n`) };
    // Reading takes the process: others have their turn in between.
    if (looked % AGENTS_IN_A_ROW === 0) await nextTurn();
    for (const program of await programsOf(parts, agentId)) {
      if ((agentId === afterAgent && nameOf(program) <= afterName) || !meets(filter, program)) continue;
      const last = programs.at(-1);
      if (last !== undefined && programs.length >= pageSize) {
        return { programs, nextPageToken: encodePageToken(`${last.agentId}\n${nameOf(last)}`) };
      }
      programs.push(program);
    }
  }
  return { programs, nextPageToken: '' };
}

/** Programs by themselves, and reading. */
export function programMethods(parts: ProgramParts): ProgramMethods {
  return {
    putProgram: async (request) => await putProgram(parts, request),

    async deleteProgram({ agentId, name }) {
      return { program: await deleteProgram(parts, agentId, name) };
    },

    async getProgram({ agentId, name }) {
      checkNames(agentId, name);
      return { program: await currentProgram(parts, agentId, name) };
    },

    listPrograms: async (request) => await listPrograms(parts, request),

    async *watchPrograms({ filter }, { signal }) {
      yield* watchPrograms(parts, checkedFilter(filter), signal);
    },
  };
}
