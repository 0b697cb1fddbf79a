// Desired states of kind PROGRAMS as plain values: their canonical order, and deltas between them. Controller and agent have to
// agree on both to the byte, so both use this; each turns the values into its messages itself. Pure.
import { type FieldViolation, invalid } from '../errors.ts';

/** A program, as far as it matters here. */
export interface ProgramEntry {
  readonly name: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** What leads from one full state to another; the fields of longline.v1.ProgramDesiredState. */
export interface ProgramDelta<P extends ProgramEntry> {
  /** New or changed. */
  readonly programs: readonly P[];
  readonly removedPrograms: readonly string[];
}

/** Programs in the order of their names, each with its parameters in the order of their names. */
export function canonicalPrograms<P extends ProgramEntry>(programs: readonly P[]): P[] {
  return programs
    .map((program) => ({ ...program, parameters: sorted(program.parameters) }))
    .sort((one, other) => compare(one.name, other.name));
}

/**
 * The full state that a delta makes of another, in canonical order: removals, then programs. What is to be removed and isn't
 * there is ignored. A full state is a delta to none. Throws `invalid` if a program is named twice.
 */
export function applyProgramDelta<P extends ProgramEntry>(base: readonly P[], delta: ProgramDelta<P>): P[] {
  const violations: FieldViolation[] = [];
  const programs = new Map(base.map((program) => [program.name, program]));
  for (const name of delta.removedPrograms) programs.delete(name);
  const seen = new Set<string>();
  for (const [place, program] of delta.programs.entries()) {
    if (seen.has(program.name)) {
      violations.push({ field: `programs[${place}].name`, description: `"${program.name}" is there twice` });
    }
    seen.add(program.name);
    programs.set(program.name, program);
  }
  if (violations.length > 0) throw invalid(violations);
  return canonicalPrograms([...programs.values()]);
}

/** The smallest delta that makes `to` of `from`, each with names once. `same` compares programs in canonical form. */
export function diffPrograms<P extends ProgramEntry>(
  from: readonly P[],
  to: readonly P[],
  same: (one: P, other: P) => boolean,
): ProgramDelta<P> {
  const before = new Map(canonicalPrograms(from).map((program) => [program.name, program]));
  const programs = canonicalPrograms(to).filter((program) => {
    const known = before.get(program.name);
    before.delete(program.name);
    return known === undefined || !same(known, program);
  });
  return { programs, removedPrograms: [...before.keys()] };
}

/** Names are letters first, so that no engine takes one for the index of an array and moves it to the front. */
function sorted(parameters: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(parameters).sort(([one], [other]) => compare(one, other)));
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
