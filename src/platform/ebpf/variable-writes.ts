// Parameters that are variables: written into an object before it is loaded, so that the verifier sees constants. Knows nothing of
// maps. What doesn't fit is told as violations, by parameter.
import type { ParameterType, ParameterWrite } from '../../capabilities/programs/ports.ts';
import { type FieldViolation, LonglineError } from '../../core/errors.ts';
import { encodeParameter } from '../../core/programs/parameter.ts';
import type { BtfVariable } from './btf.ts';
import type { ObjectFile } from './object-file.ts';

/** A parameter that is a variable. */
export type VariableWrite = Extract<ParameterWrite, { readonly kind: 'variable' }>;

const MAX_NAMES = 20;
const NUMBERS: ReadonlySet<ParameterType> = new Set(['uint', 'int', 'bool']);

/** Writes them. Gives what is wrong with those that could not be; the object is of no use then. */
export function writeVariables(object: ObjectFile, writes: readonly VariableWrite[]): readonly FieldViolation[] {
  if (writes.length === 0) return [];
  const variables = object.types?.variables() ?? [];
  return writes.flatMap((write) => {
    const fault = writeOne(object, variables, write);
    return fault === undefined ? [] : [{ description: fault, field: write.parameter }];
  });
}

function writeOne(object: ObjectFile, variables: readonly BtfVariable[], write: VariableWrite): string | undefined {
  const variable = variables.find((one) => one.name === write.variable);
  if (variable === undefined) {
    return `the object has no variable ${write.variable}; it has ${listed(variables.map((one) => one.name))}`;
  }
  const { type } = write.value;
  if (NUMBERS.has(type) && variable.shape !== 'number') {
    return `variable ${variable.name} isn't a number, and the parameter is of type ${type}`;
  }
  const map = object.maps.find((one) => one.internal && one.name === variable.section);
  const memory = map === undefined ? undefined : object.initialValue(map);
  if (memory === undefined || variable.offset + variable.size > memory.length) {
    return `variable ${variable.name} lies in ${variable.section}, which can't be written before loading`;
  }
  const fault = faultOf(() => memory.set(encodeParameter(write.value, variable.size), variable.offset));
  return fault === undefined ? undefined : `${fault}, for variable ${variable.name}`;
}

/** What is wrong with what an `invalid` error is thrown for. */
export function faultOf(work: () => void): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof LonglineError && error.reason === 'invalid') return error.message;
    throw error;
  }
}

/** "limit, port and 3 more", for messages. */
export function listed(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : '';
  return `${names.slice(0, MAX_NAMES).join(', ')}${more}`;
}
