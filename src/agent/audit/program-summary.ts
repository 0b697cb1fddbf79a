// What the audit log says of programs: commands about them, and which artifacts a desired state asks for. Bounded, and without
// parameters, which may be secret.
import { fromBinary } from '@bufbuild/protobuf';
import { type ProgramAction, ProgramDesiredStateSchema } from '#gen/longline/v1/program_pb.js';

const LONGEST_TEXT = 512;
const LONGEST_NAME = 80;
const MOST_ENTRIES = 32;

/** Bounded summary of an action as it was asked for. */
export function programSummary({ action }: ProgramAction): Readonly<Record<string, unknown>> {
  switch (action.case) {
    case 'rollBack': {
      const { name, artifact, reason } = action.value;
      return {
        action: 'roll_back',
        program: cut(name, LONGEST_NAME),
        artifact: cut(artifact, LONGEST_NAME),
        reason: cut(reason),
      };
    }
    case 'releaseQuarantine':
      return { action: 'release_quarantine', artifact: cut(action.value.artifact, LONGEST_NAME) };
    default:
      return {};
  }
}

/** Bounded summary of a ProgramDesiredState; empty for what is none. */
export function programStateSummary(body: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const { programs, removedPrograms } = fromBinary(ProgramDesiredStateSchema, body);
    const wanted = programs.map(({ name, artifact }) => `${cut(name, LONGEST_NAME)} ${cut(artifact, LONGEST_NAME)}`);
    const removed = removedPrograms.map((name) => cut(name, LONGEST_NAME));
    return {
      programs: wanted.slice(0, MOST_ENTRIES),
      program_count: wanted.length,
      ...(removed.length === 0 ? {} : { removed: removed.slice(0, MOST_ENTRIES) }),
    };
  } catch {
    // Whoever applies it refuses it, with the reason.
    return {};
  }
}

function cut(text: string, longest = LONGEST_TEXT): string {
  const plain = text.replaceAll(/\p{Cc}/gu, '\ufffd');
  return plain.length <= longest ? plain : `${plain.slice(0, longest)}…`.toWellFormed();
}
