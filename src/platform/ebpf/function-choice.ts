// Which functions of an object are loaded, and as what. Checks that the object has them, and that they are what the artifact says.
// Knows nothing of maps. What doesn't fit is told as violations, by name.
import type { AttachPoint, FunctionRequest, ProgramType } from '../../capabilities/programs/ports.ts';
import { type FieldViolation, LonglineError } from '../../core/errors.ts';
import { errnoName } from './bpf-syscall.ts';
import { type Address, libbpf } from './libbpf.ts';
import type { ObjectFile, ObjectFunction } from './object-file.ts';
import { listed } from './variable-writes.ts';

/** By enum bpf_prog_type. */
const NUMBERS: Readonly<Record<ProgramType, number>> = {
  xdp: 6,
  tc: 3,
  cgroup_skb: 8,
  cgroup_sock: 9,
  cgroup_sock_addr: 18,
  tracepoint: 5,
  raw_tracepoint: 17,
  perf_event: 7,
  uprobe: 2,
  kprobe: 2,
  fentry: 26,
  fexit: 26,
  lsm: 29,
};
/** By enum bpf_attach_type, for those that share a number. */
const EXPECTED: Partial<Readonly<Record<ProgramType, number>>> = { fentry: 24, fexit: 25, lsm: 27 };
/** What a section of "xdp" and the like is for. Without one nothing is known of a function for control groups. */
const UNNAMED: ReadonlySet<ProgramType> = new Set(['xdp', 'tc', 'tracepoint', 'perf_event', 'uprobe', 'kprobe']);
const XDP_ATTACH_TYPE = 37;

/** Has the object load these. Throws `invalid`, or `not_found` for what they would be attached to. */
export function chooseFunctions(object: ObjectFile, requests: readonly FunctionRequest[]): readonly ObjectFunction[] {
  const violations: FieldViolation[] = [];
  const chosen = requests.flatMap((request) => {
    const found = object.functions.find((one) => one.name === request.name);
    const fault = found === undefined ? absent(object, request.name) : typeFault(found, request.type);
    if (fault !== undefined) violations.push({ description: fault, field: request.name });
    if (requests.find((one) => one.name === request.name) !== request) {
      violations.push({ description: `function ${request.name} is there twice`, field: request.name });
    }
    return found === undefined ? [] : [found];
  });
  if (requests.length === 0) violations.push({ description: 'none is to be loaded', field: 'functions' });
  if (violations.length > 0) {
    const message = violations.map(({ description }) => description).join('; ');
    throw new LonglineError('invalid', message, { violations });
  }
  object.choose(chosen);
  for (const request of requests) setAttachTarget(chosen.find((one) => one.name === request.name)!.address, request);
  return chosen;
}

function absent(object: ObjectFile, name: string): string {
  return `the object has no function ${name}; it has ${listed(object.functions.map((one) => one.name))}`;
}

function typeFault(found: ObjectFunction, type: ProgramType): string | undefined {
  if (found.type === 0 && UNNAMED.has(type)) {
    libbpf().number('bpf_program__set_type', found.address, NUMBERS[type]);
    if (type === 'xdp') libbpf().number('bpf_program__set_expected_attach_type', found.address, XDP_ATTACH_TYPE);
    return undefined;
  }
  const expected = libbpf().number('bpf_program__expected_attach_type', found.address);
  if (found.type === NUMBERS[type] && expected === (EXPECTED[type] ?? expected)) return undefined;
  return `function ${found.name} is in section "${found.section}" of the object, which isn't one for type ${type}`;
}

/**
 * Some types are loaded for one function or hook of the kernel, which the section may leave open: says which. `program` is
 * libbpf's, and not loaded yet. Throws `not_found` naming it, `invalid` for two.
 */
export function setAttachTarget(program: Address, { name, points, type }: FunctionRequest): void {
  if (EXPECTED[type] === undefined) return;
  const targets = new Set(points.flatMap((point) => targetOf(point) ?? []));
  const [target, ...more] = targets;
  if (target === undefined) return;
  if (more.length > 0) {
    const description = `function ${name} is to be attached to ${listed([...targets])}; type ${type} takes one`;
    throw new LonglineError('invalid', description, { violations: [{ description, field: 'attach' }] });
  }
  const attach = () => libbpf().number('bpf_program__set_attach_target', program, 0, target);
  const result = attach();
  if (result === 0) return;
  const { said } = libbpf().listen(attach);
  const because = `(${errnoName(-result)})${said === '' ? '' : `: ${said}`}`;
  throw new LonglineError('not_found', `the kernel has no ${type} target ${target} for function ${name} ${because}`);
}

function targetOf(point: AttachPoint): string | undefined {
  if (point.kind === 'fentry' || point.kind === 'fexit') return point.function;
  return point.kind === 'lsm' ? point.hook : undefined;
}
