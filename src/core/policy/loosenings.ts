// Pieces that the rules of jobs and of sessions share: how a verdict reads, which users and networks a list allows.
import { nameMatches } from '../glob.ts';
import type { Decision } from './policy.ts';

/** What a list of a rule says of a subject; undefined for a rule that is a mere switch. */
export function verdict(
  rule: string,
  key: string,
  allowed: boolean,
  subject: string,
  list: readonly string[] | undefined,
): Decision {
  if (allowed) return { rule: `${rule}.${key}`, allowed, explanation: `${subject} is allowed` };
  const listed = list === undefined ? 'not allowed' : `not among those allowed: ${list.join(', ') || 'none'}`;
  return { rule: `${rule}.${key}`, allowed, explanation: `${subject} is ${listed}` };
}

/** These names are modes to the engine, not networks. */
const MODES: readonly string[] = ['none', 'bridge', 'host', 'default', 'container'];

/** True if a list with "named:PATTERN" entries allows an engine network. */
export function namedNetworkAllowed(list: readonly string[], name: string): boolean {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name) || MODES.includes(name)) return false;
  return list.some((allowed) => allowed.startsWith('named:') && nameMatches(allowed.slice('named:'.length), name));
}

const ID = /^(?:0|[1-9]\d{0,9})$/;
const LARGEST_ID = 2 ** 31 - 1;

/**
 * A name is allowed only by itself, since the image decides which number it is, and so is a number without a group, since
 * the engine may choose that of root. "*" stands for any number but 0.
 */
export function userAllowed(list: readonly string[], user: string): boolean {
  if (list.includes(user)) return true;
  const asked = user.split(':');
  if (asked.length !== 2 || !asked.every((part) => ID.test(part) && Number(part) <= LARGEST_ID)) return false;
  return list.some((pattern) => {
    const parts = pattern.split(':');
    return (
      parts.length === asked.length &&
      parts.every((part, position) => (part === '*' ? asked[position] !== '0' : part === asked[position]))
    );
  });
}

/** Key in the policy file, the least that makes sense, and how to write it. To engines, 0 means no limit at all. */
export type LimitKind = readonly [key: string, least: number, format: (value: number) => string];

/** Decides on limits one by one; those that no policy bounds are left to the host. */
export function* decideLimits<L extends object>(
  kinds: Readonly<Record<keyof L, LimitKind>>,
  general: { readonly rule: string; readonly limits: Partial<L> },
  own: { readonly rule: string; readonly limits: Partial<L> },
  asked: L,
): Iterable<Decision> {
  for (const name of Object.keys(kinds) as (keyof L)[]) {
    const [key, least, format] = kinds[name];
    const most = (own.limits[name] ?? general.limits[name]) as number | undefined;
    if (most === undefined) continue;
    const value = asked[name] as number;
    // Written so that NaN is refused.
    const allowed = value >= least && value <= most;
    const relation = allowed ? 'is within' : 'is not within';
    yield {
      rule: `${own.limits[name] === undefined ? general.rule : own.rule}.${key}`,
      allowed,
      explanation: `${key} ${format(value)} ${relation} ${format(least)} to ${format(most)}`,
    };
  }
}
