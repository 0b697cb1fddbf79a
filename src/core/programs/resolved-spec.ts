// Joins what is asked for with what an artifact offers: which function goes where, and what is written where before it runs. Pure.
// Whether interface, hook, variable and map exist is for the kernel's side to say.
import { type FieldViolation, invalid } from '../errors.ts';
import { type AttachPoint, attachText, KIND_OF_TYPE } from './attach-point.ts';
import type { ArtifactFunction, ArtifactMetadata, ArtifactParameter, ThresholdDraft } from './metadata.ts';
import { canonicalValue, type ParameterValue, parameterFault, splitKeySet } from './parameter.ts';
import type { ProgramSpec } from './program-spec.ts';
import type { ProgramType } from './program-type.ts';
import { mergeThresholds, type Refuse } from './thresholds.ts';

/** A parameter to write. `parameter` is its name, for messages. */
export type ParameterWrite =
  /** Before the program is loaded: the verifier sees a constant. */
  | {
      readonly kind: 'variable';
      readonly parameter: string;
      readonly variable: string;
      readonly value: ParameterValue;
    }
  | {
      readonly kind: 'map';
      readonly parameter: string;
      readonly map: string;
      readonly key: string;
      readonly value: ParameterValue;
    }
  /** Exactly these keys, each with the value 1. Of a map that was carried over, others go. */
  | {
      readonly kind: 'key_set';
      readonly parameter: string;
      readonly map: string;
      readonly maxKeys: number | undefined;
      readonly keys: readonly ParameterValue[];
    };

/** A function to load. Those that aren't named are not loaded. */
export interface FunctionRequest {
  readonly name: string;
  readonly type: ProgramType;
  /** Where it will be attached; some types have to be loaded for it. */
  readonly points: readonly AttachPoint[];
}

/** What is to be loaded, and how it is to be judged. */
export interface ResolvedSpec {
  readonly functions: readonly FunctionRequest[];
  readonly writes: readonly ParameterWrite[];
  /** Of spec or artifact; undefined leaves it to the host; 0 for ever. */
  readonly ttlMs: number | undefined;
  /** Of spec or artifact; what neither says is as on the host. */
  readonly thresholds: ThresholdDraft;
}

/** Types that the kernel takes only together with where they go. */
export const BOUND_TYPES: ReadonlySet<ProgramType> = new Set(['fentry', 'fexit', 'lsm']);

/** Throws `invalid` with every violation, by fields of the spec: "attach[0]", "parameters.limit". */
export function resolveSpec(spec: ProgramSpec, metadata: ArtifactMetadata): ResolvedSpec {
  const violations: FieldViolation[] = [];
  const refuse: Refuse = (field, description) => violations.push({ field, description });
  const functions = placeFunctions(spec, metadata, refuse);
  const writes = writeParameters(spec, metadata, refuse);
  if (violations.length > 0) throw invalid(violations);
  return {
    functions,
    writes,
    ttlMs: spec.ttlMs ?? metadata.ttlMs,
    thresholds: mergeThresholds(spec.thresholds, metadata.thresholds),
  };
}

/** A function and a place, with the field that asked for it. */
interface Placement {
  readonly field: string;
  readonly function: ArtifactFunction;
  readonly point: AttachPoint;
}

function placeFunctions(spec: ProgramSpec, metadata: ArtifactMetadata, refuse: Refuse): readonly FunctionRequest[] {
  const placements = spec.attach.length === 0 ? ownPlaces(metadata, refuse) : askedPlaces(spec, metadata, refuse);
  refuseConflicts(placements, refuse);
  return metadata.functions.flatMap((one) => {
    const points = placements.filter((placement) => placement.function === one).map(({ point }) => point);
    // Without a place it is there to be called by others; with places of its own that the spec passes over it is not wanted.
    const wanted = points.length > 0 || (one.attach.length === 0 && !BOUND_TYPES.has(one.type));
    return wanted ? [{ name: one.name, type: one.type, points }] : [];
  });
}

function ownPlaces({ functions }: ArtifactMetadata, refuse: Refuse): readonly Placement[] {
  const placements = functions.flatMap((one) =>
    one.attach.map(({ point }) => ({ field: 'attach', function: one, point })),
  );
  if (placements.length === 0) {
    refuse('attach', `missing; the artifact doesn't say where it goes either, and has ${listed(functions)}`);
  }
  return placements;
}

function askedPlaces(spec: ProgramSpec, metadata: ArtifactMetadata, refuse: Refuse): readonly Placement[] {
  return spec.attach.flatMap(({ function: name, point }, place) => {
    const field = `attach[${place}]`;
    const found = name === undefined ? onlyOneFor(point, metadata) : named(name, point, metadata);
    if (typeof found !== 'string') return [{ field, function: found, point }];
    refuse(field, found);
    return [];
  });
}

/** The function of that name; else what is wrong. */
function named(name: string, point: AttachPoint, { functions }: ArtifactMetadata): ArtifactFunction | string {
  const found = functions.find((one) => one.name === name);
  if (found === undefined) return `the artifact has no function ${name}; it has ${listed(functions)}`;
  if (KIND_OF_TYPE[found.type] === point.kind) return found;
  return `${name} is of type ${found.type} and can't go to ${attachText(point)}; it goes to "${KIND_OF_TYPE[found.type]}:…"`;
}

/** The one function that can go there: of several, the one that is meant to be attached at all; else what is wrong. */
function onlyOneFor(point: AttachPoint, { functions }: ArtifactMetadata): ArtifactFunction | string {
  const able = functions.filter((one) => KIND_OF_TYPE[one.type] === point.kind);
  if (able.length === 0) return `no function can go to ${attachText(point)}; the artifact has ${listed(functions)}`;
  const meant = able.filter((one) => one.attach.length > 0);
  const [first, second] = able.length > 1 && meant.length > 0 ? meant : able;
  if (second === undefined) return first!;
  const names = able.map((one) => one.name);
  return `${names.join(' and ')} can all go to ${attachText(point)}; say which: "${names[0]}@${attachText(point)}"`;
}

/** The same twice, and a driver's place that takes one function only. */
function refuseConflicts(placements: readonly Placement[], refuse: Refuse): void {
  const taken = new Map<string, Placement>();
  for (const placement of placements) {
    const { point, field } = placement;
    const text = attachText(point);
    const place = point.kind === 'xdp' ? `xdp:${point.interface}` : `${placement.function.name}@${text}`;
    const other = taken.get(place);
    if (other === undefined) taken.set(place, placement);
    else if (other.function === placement.function && attachText(other.point) === text) {
      refuse(field, `${placement.function.name} goes to ${text} twice`);
    } else {
      refuse(field, `${place} takes one function; it is to have ${other.function.name} and ${placement.function.name}`);
    }
  }
}

function writeParameters(spec: ProgramSpec, metadata: ArtifactMetadata, refuse: Refuse): readonly ParameterWrite[] {
  const known = new Set(metadata.parameters.map(({ name }) => name));
  for (const name of spec.parameters.keys()) {
    if (known.has(name)) continue;
    const right = known.size === 0 ? 'has none' : `has ${[...known].join(', ')}`;
    refuse(`parameters.${name}`, `the artifact has no parameter ${name}; it ${right}`);
  }
  return metadata.parameters.flatMap((parameter) => {
    const text = spec.parameters.get(parameter.name) ?? parameter.defaultText;
    const field = `parameters.${parameter.name}`;
    if (text === undefined || (parameter.required && !spec.parameters.has(parameter.name))) {
      if (parameter.required) refuse(field, `missing; the artifact needs a value of type ${parameter.type}`);
      return [];
    }
    const fault = parameterFault(parameter, text);
    if (fault === undefined) return [writeOf(parameter, text)];
    refuse(field, fault);
    return [];
  });
}

function writeOf({ name, type, target }: ArtifactParameter, text: string): ParameterWrite {
  if (target.kind !== 'key_set') return { ...target, parameter: name, value: { type, text } };
  const keys = new Map(splitKeySet(text).map((key) => [canonical({ type, text: key }), { type, text: key }]));
  return { ...target, parameter: name, keys: [...keys.values()] };
}

function canonical(value: ParameterValue): string {
  const read = canonicalValue(value);
  return read.ok ? read.value : value.text;
}

function listed(functions: readonly ArtifactFunction[]): string {
  return functions.map(({ name, type }) => `${name} (${type})`).join(', ');
}
