// Reads the parameters of an artifact's metadata. Pure.
import type { ArtifactParameter, ParameterTarget } from './metadata.ts';
import { MAP_NAME, SYMBOL_NAME, shownValue } from './metadata-names.ts';
import { canonicalValue, isMapKey, MAP_KEY_FORM, parameterFault } from './parameter.ts';
import { PARAMETER_NAME, PROGRAM_NAME_FORM } from './program-spec.ts';
import { PARAMETER_TYPES, type ParameterType } from './program-type.ts';
import type { Refuse } from './thresholds.ts';

/** A longline.v1.ProgramParameter. */
export interface ParameterMessage {
  readonly name: string;
  readonly description: string;
  readonly type: number;
  readonly target:
    | { readonly case: 'variable'; readonly value: string }
    | { readonly case: 'map'; readonly value: { readonly map: string; readonly key: string } }
    | { readonly case: 'keySet'; readonly value: { readonly map: string; readonly maxKeys: number } }
    | { readonly case: undefined; readonly value?: undefined };
  readonly min: string;
  readonly max: string;
  readonly choices: readonly string[];
  readonly default: string;
  readonly required: boolean;
}

const MAX_PARAMETERS = 256;
const MAX_CHOICES = 64;

/** Reads parameters. What is wrong is noted. */
export function readParameters(messages: readonly ParameterMessage[], refuse: Refuse): readonly ArtifactParameter[] {
  if (messages.length > MAX_PARAMETERS) {
    refuse('parameters', `${messages.length} parameters are too many; at most ${MAX_PARAMETERS}`);
    return [];
  }
  const names = new Set<string>();
  const targets = new Map<string, string>();
  return messages.flatMap((message, place) => {
    const at = `parameters[${place}]`;
    const { name } = message;
    if (!PARAMETER_NAME.test(name)) refuse(`${at}.name`, `${shownValue(name)}; must be ${PROGRAM_NAME_FORM}`);
    else if (names.has(name)) refuse(`${at}.name`, `"${name}" is there twice`);
    names.add(name);
    const parameter = readParameter(message, at, refuse);
    if (parameter === undefined) return [];
    const target = targetText(parameter.target);
    const twin = targets.get(target);
    if (twin !== undefined) refuse(`${at}.${parameter.target.kind}`, `${target} is set by ${twin} already`);
    targets.set(target, name);
    return [parameter];
  });
}

function readParameter(message: ParameterMessage, at: string, refuse: Refuse): ArtifactParameter | undefined {
  const type = PARAMETER_TYPES[message.type - 1];
  if (type === undefined) {
    const got = message.type === 0 ? 'missing' : `got ${message.type}`;
    refuse(`${at}.type`, `${got}; must be one of ${PARAMETER_TYPES.join(', ')}`);
  }
  const target = readTarget(message, at, refuse);
  if (message.description.length > 1024) refuse(`${at}.description`, 'has more than 1024 characters');
  if (type === undefined || target === undefined) return undefined;
  const parameter: ArtifactParameter = {
    name: message.name,
    description: message.description,
    type,
    target,
    ...readRange(message, type, at, refuse),
    choices: readChoices(message.choices, type, at, refuse),
    defaultText: message.default === '' ? undefined : message.default,
    required: message.required,
  };
  checkDefault(parameter, at, refuse);
  return parameter;
}

function readTarget({ target }: ParameterMessage, at: string, refuse: Refuse): ParameterTarget | undefined {
  switch (target.case) {
    case 'variable':
      if (!SYMBOL_NAME.test(target.value)) {
        refuse(`${at}.variable`, `${shownValue(target.value)}; must be the name of a variable of the object`);
      }
      return { kind: 'variable', variable: target.value };
    case 'map': {
      const { map, key } = target.value;
      if (!MAP_NAME.test(map)) refuse(`${at}.map.map`, `${shownValue(map)}; must be the name of a map`);
      if (!isMapKey(key)) refuse(`${at}.map.key`, `${shownValue(key)}; must be ${MAP_KEY_FORM}`);
      return { kind: 'map', map, key };
    }
    case 'keySet': {
      const { map, maxKeys } = target.value;
      if (!MAP_NAME.test(map)) refuse(`${at}.key_set.map`, `${shownValue(map)}; must be the name of a map`);
      return { kind: 'key_set', map, maxKeys: maxKeys === 0 ? undefined : maxKeys };
    }
    default:
      refuse(at, 'goes nowhere; must have one of variable, map, key_set');
      return undefined;
  }
}

/** One text for one place. */
function targetText(target: ParameterTarget): string {
  if (target.kind === 'variable') return `the variable ${target.variable}`;
  return target.kind === 'map' ? `key ${target.key} of map ${target.map}` : `map ${target.map}`;
}

function readRange({ min, max }: ParameterMessage, type: ParameterType, at: string, refuse: Refuse) {
  const bound = (field: string, text: string): bigint | undefined => {
    if (text === '') return undefined;
    if (type !== 'uint' && type !== 'int') {
      refuse(`${at}.${field}`, `a value of type ${type} has no range; leave it out`);
      return undefined;
    }
    const read = canonicalValue({ type, text });
    if (read.ok) return BigInt(read.value);
    refuse(`${at}.${field}`, read.problem);
    return undefined;
  };
  const range = { min: bound('min', min), max: bound('max', max) };
  if (range.min !== undefined && range.max !== undefined && range.min > range.max) {
    refuse(`${at}.max`, `${max} is less than min, which is ${min}`);
  }
  return range;
}

function readChoices(choices: readonly string[], type: ParameterType, at: string, refuse: Refuse): readonly string[] {
  if (choices.length > MAX_CHOICES) refuse(`${at}.choices`, `${choices.length} are too many; at most ${MAX_CHOICES}`);
  for (const [place, text] of choices.slice(0, MAX_CHOICES).entries()) {
    const read = canonicalValue({ type, text });
    if (!read.ok) refuse(`${at}.choices[${place}]`, read.problem);
  }
  return choices.slice(0, MAX_CHOICES);
}

function checkDefault(parameter: ArtifactParameter, at: string, refuse: Refuse): void {
  const { defaultText, required } = parameter;
  if (defaultText === undefined) return;
  if (required) refuse(`${at}.default`, 'is never used, since the spec has to say; leave out default or required');
  const fault = parameterFault(parameter, defaultText);
  if (fault !== undefined) refuse(`${at}.default`, fault);
}
