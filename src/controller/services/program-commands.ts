// What an operator has an agent do with its programs at once: a command in the controller's name, and what came of it. A command that
// no agent takes in time is given up, so that nothing is done late.
import { create, fromBinary } from '@bufbuild/protobuf';
import { Outcome, type Result, ResultSchema } from '#gen/longline/link/v1/link_pb.js';
import { type ProgramAction, type ProgramResult, ProgramResultSchema } from '#gen/longline/v1/program_pb.js';
import { ActionSchema } from '#gen/longline/v1/signature_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { noTracer, traced } from '../../core/tracer.ts';
import { agentTopic, jobTopic } from '../bus/topics.ts';
import { errorFromWire } from '../link/wire.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { agentRefusal, type SubmissionContext, traceOf } from './submission-context.ts';
import { nextWithin } from './waiting.ts';

/** How long a command may wait for its agent. */
const TTL_MS = 30_000;

/** How long its caller waits in all. */
const WAIT_MS = 120_000;

/** Stores a command, waits for its end, and gives its result. Throws what the agent says went wrong, and `late`. */
export async function askAgent(
  needs: ServiceDependencies,
  agentId: string,
  program: ProgramAction,
  context: SubmissionContext,
  signal: AbortSignal,
): Promise<ProgramResult> {
  const { bus, clock, signer, store, tracer = noTracer } = needs;
  const createdAtMs = clock.now();
  const expiresAtMs = createdAtMs + TTL_MS;
  const id = newId(createdAtMs);
  const action = create(ActionSchema, { action: { case: 'program', value: program } });
  const statement = signer.sign({ action, agentIds: [agentId], issuedAtMs: createdAtMs, expiresAtMs });
  using ended = await bus.subscribe(jobTopic(id), 1);
  const { creator } = context;
  const command = { id, agentId, statement, createdAtMs, expiresAtMs, creator, ...traceOf(context) };
  const attributes = { [ATTRIBUTE.commandId]: id };
  const outcome = await traced(tracer, SPAN.store, { attributes }, () => store.programCommands.submit(command));
  if (outcome.kind === 'refused') throw agentRefusal(outcome);
  bus.publish(agentTopic(agentId), { kind: 'commands' });
  const deadline = clock.monotonic() + WAIT_MS;
  for (;;) {
    const stored = await store.commands.get(id);
    if (stored === undefined) throw new LonglineError('not_found', `agent ${agentId} was deleted meanwhile`);
    if (stored.result !== undefined) return resultOf(fromBinary(ResultSchema, stored.result), agentId);
    if (signal.aborted) throw new LonglineError('cancelled', `the caller left; agent ${agentId} may still do it`);
    const left = deadline - clock.monotonic();
    if (left <= 0) {
      throw new LonglineError('late', `agent ${agentId} has not said within ${WAIT_MS / 1000} s what came of it`);
    }
    await nextWithin(ended, clock, Math.min(needs.options.recheckMs, left), signal);
  }
}

function resultOf({ detail, error, outcome }: Result, agentId: string): ProgramResult {
  if (error !== undefined) throw errorFromWire(error);
  if (outcome === Outcome.SUCCEEDED) return detail.case === 'program' ? detail.value : create(ProgramResultSchema);
  const how = (Outcome[outcome] ?? 'UNSPECIFIED').toLowerCase();
  throw new LonglineError('internal', `agent ${agentId} says that it ended as ${how}, and not why`);
}
