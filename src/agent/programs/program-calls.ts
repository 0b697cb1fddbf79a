// The programs capability as the local service and the local HTTP API offer it.
import { create } from '@bufbuild/protobuf';
import { LocalProgramSchema } from '#gen/longline/local/v1/local_pb.js';
import type { ProgramsCapability } from '../../capabilities/programs/capability.ts';
import { figuresMessage, rollbackMessage, statusMessage } from '../../capabilities/programs/wire.ts';
import { invalid, LonglineError } from '../../core/errors.ts';
import type { ProgramCalls } from '../local/local-server.ts';

const LONGEST_REASON = 1024;

/** The part of the capability that calls need. */
export type CalledPrograms = Pick<
  ProgramsCapability,
  'look' | 'measured' | 'quarantined' | 'rollbacks' | 'rollBack' | 'releaseQuarantine'
>;

/** Calls on a capability; what it can't do before it was opened is refused as `wrong_state` or `not_found`. */
export function programCalls(programs: CalledPrograms): ProgramCalls {
  return {
    list: async () => {
      const measured = programs.measured();
      return {
        programs: programs.look().map((view) => {
          const last = measured.get(view.name);
          const status = statusMessage(view);
          return create(
            LocalProgramSchema,
            last === undefined ? { status } : { status, figures: figuresMessage(last.figures) },
          );
        }),
        quarantined: programs
          .quarantined()
          .map(({ artifact }) => artifact)
          .sort(),
      };
    },
    rollbacks: async () => ({ rollbacks: programs.rollbacks().map(rollbackMessage) }),
    rollBack: async ({ name, reason }) => {
      if (name === '') throw invalid([{ field: 'name', description: 'is missing; say which program' }]);
      if (reason.length > LONGEST_REASON) {
        const description = `has ${reason.length} characters; at most ${LONGEST_REASON}`;
        throw invalid([{ field: 'reason', description }]);
      }
      const { id } = await programs.rollBack({ program: name, artifact: undefined, reason, requestedBy: 'local' });
      const record = programs.rollbacks().find((one) => one.id === id);
      if (record === undefined) throw new LonglineError('internal', `rollback ${id} is not in the history`);
      return { rollback: rollbackMessage(record) };
    },
    release: async ({ artifact }) => ({
      artifacts: [...(await programs.releaseQuarantine(artifact === '' ? undefined : artifact))],
    }),
  };
}
