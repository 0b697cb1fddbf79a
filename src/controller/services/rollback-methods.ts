// The methods of ProgramService for going back: by command, and what agents told of it.
import { create, fromBinary } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import { FleetRollbackSchema, type ProgramService } from '#gen/longline/fleet/v1/program_service_pb.js';
import { ProgramActionSchema, ProgramRollbackSchema } from '#gen/longline/v1/program_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { agentIdViolations } from './agent-lookup.ts';
import { digestViolations } from './artifact-methods.ts';
import { askAgent } from './program-commands.ts';
import { programNameViolations } from './program-filter.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { contextOf } from './submission-context.ts';

const MAX_REASON = 1024;

type RollbackMethods = Pick<
  ServiceImpl<typeof ProgramService>,
  'rollBackProgram' | 'releaseQuarantine' | 'listRollbacks'
>;

function reasonViolations(reason: string): readonly FieldViolation[] {
  if (reason.length <= MAX_REASON) return [];
  return [{ field: 'reason', description: `has ${reason.length} characters; at most ${MAX_REASON} are allowed` }];
}

function check(...violations: readonly (readonly FieldViolation[])[]): void {
  const all = violations.flat();
  if (all.length > 0) throw invalid(all);
}

/** Going back over commands and the store. */
export function rollbackMethods(needs: ServiceDependencies): RollbackMethods {
  return {
    async rollBackProgram({ agentId, artifact, name, reason }, context) {
      check(
        agentIdViolations(agentId, 'agent_id'),
        programNameViolations(name, 'name'),
        reasonViolations(reason),
        artifact === '' ? [] : digestViolations(artifact, 'artifact'),
      );
      const action = create(ProgramActionSchema, { action: { case: 'rollBack', value: { name, reason, artifact } } });
      const { result } = await askAgent(needs, agentId, action, contextOf(context), context.signal);
      if (result.case === 'rollback') return { rollback: result.value };
      throw new LonglineError('internal', `agent ${agentId} says that it is done, and not what came of it`);
    },

    async releaseQuarantine({ agentId, artifact }, context) {
      check(agentIdViolations(agentId, 'agent_id'), artifact === '' ? [] : digestViolations(artifact, 'artifact'));
      const action = create(ProgramActionSchema, { action: { case: 'releaseQuarantine', value: { artifact } } });
      const { result } = await askAgent(needs, agentId, action, contextOf(context), context.signal);
      return { artifacts: result.case === 'released' ? result.value.artifacts : [] };
    },

    async listRollbacks(request) {
      const { agentId, name } = request;
      check(
        agentId === '' ? [] : agentIdViolations(agentId, 'agent_id'),
        name === '' ? [] : programNameViolations(name, 'name'),
      );
      const page = await needs.store.rollbacks.list({ agentId, name, ...pageQuery(request) });
      const rollbacks = page.items.map((record) =>
        create(FleetRollbackSchema, {
          agentId: record.agentId,
          rollback: fromBinary(ProgramRollbackSchema, record.rollback),
        }),
      );
      return { rollbacks, nextPageToken: page.nextPageToken };
    },
  };
}
