// Parsers for the values of options. Each throws commander's InvalidArgumentError, which names the option and value.
import { InvalidArgumentError } from 'commander';
import { parseByteSize } from '../core/byte-size.ts';
import { parseDuration } from '../core/clock.ts';

/** "90s", "5m" or a bare number of seconds, to milliseconds. */
export function durationValue(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined) throw new InvalidArgumentError('Give a duration such as "250ms", "90s", "5m" or "1h30m".');
  return ms;
}

/** "256MiB", bytes, or "256m" as container tools take it, which is the same. */
export function sizeValue(text: string): number {
  const short = /^(\d+(?:\.\d+)?)([kmgt])$/i.exec(text);
  const bytes = parseByteSize(short === null ? text : `${short[1]}${short[2]!.toUpperCase()}iB`);
  if (bytes === undefined) throw new InvalidArgumentError('Give a size such as "256MiB", "256m" or bytes.');
  return bytes;
}

/** A whole number within a range. */
export function countValue(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Give a whole number of ${min} to ${max}.`);
  };
}

/** A number above zero, at most `max`. */
export function positiveValue(max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d*\.?\d+$/.test(text) && value > 0 && value <= max) return value;
    throw new InvalidArgumentError(`Give a number above 0, at most ${max}.`);
  };
}

/** One of these words, to the value it stands for. */
export function wordValue<T>(words: Readonly<Record<string, T>>): (text: string) => T {
  return (text) => {
    if (Object.hasOwn(words, text)) return words[text] as T;
    throw new InvalidArgumentError(`Give one of ${Object.keys(words).join(', ')}.`);
  };
}

/** Collects every use of a repeatable option. */
export function repeated(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text];
}

/** Collects "key=value" into a record; a later use of the same key wins. */
export function pairValue(
  text: string,
  before: Readonly<Record<string, string>> | undefined,
): Readonly<Record<string, string>> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Give KEY=VALUE.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** What a selector in words picks. */
export interface SelectorValue {
  readonly matchLabels: Record<string, string>;
  readonly hasLabels: string[];
  readonly agentIds: string[];
}

/** "zone=eu,gpu,id:web-1": label with value, label present, agent by id; "*" picks all; "" is refused, since it is what an unset variable gives. All must hold. */
export function selectorValue(text: string): SelectorValue {
  const selector: SelectorValue = { matchLabels: {}, hasLabels: [], agentIds: [] };
  if (text.trim() === '*') return selector;
  for (const part of text.split(',').map((one) => one.trim())) {
    const [, id] = /^id:([A-Za-z0-9._-]{1,128})$/.exec(part) ?? [];
    const [, key, value] = /^([A-Za-z0-9._/-]{1,63})(?:=(.{0,255}))?$/.exec(part) ?? [];
    if (id !== undefined) selector.agentIds.push(id);
    else if (key === undefined)
      throw new InvalidArgumentError(
        `${JSON.stringify(part)} is none of KEY=VALUE, KEY, id:AGENT; * alone picks every agent.`,
      );
    else if (value === undefined) selector.hasLabels.push(key);
    else if (Object.hasOwn(selector.matchLabels, key) && selector.matchLabels[key] !== value) {
      throw new InvalidArgumentError(`No agent has two values for the label ${key}.`);
    } else selector.matchLabels[key] = value;
  }
  return selector;
}

/** A mount into a job's container. */
export interface MountValue {
  readonly source: string;
  readonly target: string;
  readonly writable: boolean;
}

/** "SOURCE:TARGET", "SOURCE:TARGET:rw" or "SOURCE:TARGET:ro" (the default); repeatable. */
export function mountValue(text: string, before: readonly MountValue[] | undefined): readonly MountValue[] {
  const match = /^([^:]+):(\/[^:]*)(?::(ro|rw))?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Give SOURCE:TARGET or SOURCE:TARGET:rw; TARGET is absolute.');
  return [...(before ?? []), { source: match[1]!, target: match[2]!, writable: match[3] === 'rw' }];
}

/** Lines "NAME=VALUE" of an env file; blank lines and those that start with # are skipped. Throws with the line. */
export function parseEnvFile(text: string, path: string): Readonly<Record<string, string>> {
  const env: Record<string, string> = {};
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue;
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line);
    if (match === null) {
      throw new InvalidArgumentError(
        `${path}, line ${index + 1}: ${JSON.stringify(line.slice(0, 60))} is not NAME=VALUE.`,
      );
    }
    env[match[1]!] = match[2]!;
  }
  return env;
}
