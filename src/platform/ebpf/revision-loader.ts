// Loads a revision: opens the object, writes parameters, carries maps over, has the kernel verify it, and pins it. What is wrong with
// the request is found before anything happens; what fails later leaves nothing pinned. Attaches nothing.
import type { LoadOutcome, LoadRequest } from '../../capabilities/programs/ports.ts';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { ERRNO, errnoName, kernelError, mapInfo, pin, programInfo } from './bpf-syscall.ts';
import { chooseFunctions } from './function-choice.ts';
import { libbpf } from './libbpf.ts';
import { carryMaps, mapShape } from './map-carry.ts';
import { type MapWrite, type PlannedWrite, planMapWrites, writeElements } from './map-writes.ts';
import { ObjectFile, type ObjectFunction } from './object-file.ts';
import { type Pins, placeText } from './pins.ts';
import { type VariableWrite, writeVariables } from './variable-writes.ts';

/** Advice of libbpf for kernels that accounted BPF otherwise. */
const MISLEADING = /ulimit/;

/** An object that is ready to be loaded. */
interface Prepared extends Disposable {
  readonly object: ObjectFile;
  readonly functions: readonly ObjectFunction[];
  readonly writes: readonly PlannedWrite[];
  readonly carried: readonly string[];
}

/** Loads and pins. A leftover of the same place goes first. */
export async function loadRevision(
  pins: Pins,
  request: LoadRequest,
  signal: AbortSignal,
  log: Logger,
): Promise<LoadOutcome> {
  const { place } = request;
  using first = prepare(pins, request);
  if (pins.has(place)) log.info('a revision that was left over is taken away', { place: placeText(place) });
  pins.remove(place);
  let outcome = await first.object.load(signal);
  if (outcome.kind === 'loaded') return await pinRevision(pins, request, first);
  if (outcome.kind === 'refused') return refusal(request, outcome);
  // An object can be loaded once only. Nothing was verified, so that this ends as soon as it did before; but aloud.
  using second = prepare(pins, request);
  const again = second.object.loadAloud();
  outcome = again.outcome;
  if (outcome.kind === 'loaded') return await pinRevision(pins, request, second);
  if (outcome.kind === 'refused') return refusal(request, outcome);
  throw failure(request, outcome.errno, again.said);
}

function prepare(pins: Pins, request: LoadRequest): Prepared {
  const object = new ObjectFile(request.object);
  try {
    const functions = chooseFunctions(object, request.functions);
    const variables = request.writes.filter((write): write is VariableWrite => write.kind === 'variable');
    const others = request.writes.filter((write): write is MapWrite => write.kind !== 'variable');
    const violations: FieldViolation[] = [...writeVariables(object, variables)];
    const writes = planMapWrites(object, others, violations);
    if (violations.length > 0) throw invalid(violations);
    const { carryFrom, freshMaps } = request;
    const carried = carryFrom === undefined ? [] : carryMaps(object, pins, carryFrom, freshMaps);
    return { carried, functions, object, writes, [Symbol.dispose]: () => object[Symbol.dispose]() };
  } catch (error) {
    object[Symbol.dispose]();
    throw error;
  }
}

async function pinRevision(pins: Pins, request: LoadRequest, prepared: Prepared): Promise<LoadOutcome> {
  const { object, functions, carried } = prepared;
  using draft = pins.draft(request.place);
  for (const map of object.maps) {
    const fd = libbpf().number('bpf_map__fd', map.address);
    if (fd >= 0) pin(fd, draft.mapPath({ name: map.name, shape: mapShape(object, map) }));
  }
  const loaded = functions.map(({ address, name }) => {
    const fd = libbpf().number('bpf_program__fd', address);
    const expectedAttachType = libbpf().number('bpf_program__expected_attach_type', address);
    pin(fd, draft.functionPath({ expectedAttachType, name }));
    return { id: programInfo(fd).id, name };
  });
  for (const write of prepared.writes) {
    await writeElements(libbpf().number('bpf_map__fd', write.map.address), write);
  }
  draft.commit();
  const maps = object.maps.flatMap(({ address, internal, name }) => {
    return internal ? [] : [{ id: mapInfo(libbpf().number('bpf_map__fd', address)).id, name }];
  });
  const byName = (one: { readonly name: string }, other: { readonly name: string }) => (one.name < other.name ? -1 : 1);
  const revision = { functions: loaded.sort(byName), maps: maps.sort(byName), place: request.place };
  return { carriedMaps: carried, kind: 'loaded', revision };
}

function refusal(
  { place }: LoadRequest,
  refused: { readonly function: string; readonly errno: number; readonly log: string },
): LoadOutcome {
  const last = reasonIn(refused.log);
  const message = `the verifier refused function ${refused.function} of ${placeText(place)} with ${errnoName(refused.errno)}`;
  const error = new LonglineError('invalid', last === '' ? message : `${message}: ${last}`);
  return { error, kind: 'refused', verifierLog: refused.log };
}

/** The last line that says something: after it there are only figures. */
function reasonIn(log: string): string {
  const lines = log.split('\n').map((line) => line.trim());
  const saying = lines.findLast(
    (line) => line !== '' && !/^(processed \d+ insns|verification time|stack depth|max_)/.test(line),
  );
  return (saying ?? '').slice(0, 500);
}

function failure({ place }: LoadRequest, errno: number, said: string): LonglineError {
  const doing = `loading ${placeText(place)}`;
  const lines = said.split('\n').filter((line) => !MISLEADING.test(line));
  const last = lines.slice(-5).join('; ');
  if (errno !== ERRNO.EPERM && errno !== ERRNO.EACCES) return kernelError(doing, errno, last);
  const mend = 'the agent needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or root, and the kernel has to allow it';
  return kernelError(doing, errno, last === '' ? mend : `${mend}: ${last}`);
}
