// Standard input from a caller to whoever holds the agent's log stream. The two talk over the bus only: what was accepted
// is published, and a signal that got lost is sent again, which does no harm since bytes are known by their offset.

import { fromBinary } from '@bufbuild/protobuf';
import type { WriteInputRequest } from '#gen/longline/fleet/v1/job_service_pb.js';
import { JobSpecSchema, JobState, StdinMode } from '#gen/longline/v1/job_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { agentInputTopic, type InputState, inputStateTopic, jobTopic } from '../bus/topics.ts';
import type { CommandRecord } from '../store/command.ts';
import { isEnded } from '../store/job-state.ts';
import { findExecution } from './job-lookup.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { nextWithin } from './waiting.ts';

const MAX_DATA_BYTES = 64 * 1024;

/** How often a signal is repeated while nothing is heard. */
const REPEAT_MS = 1000;

/** What became of the input. */
export interface InputOutcome {
  readonly acceptedOffset: bigint;
  readonly closed: boolean;
}

async function checkTakesInput({ store }: ServiceDependencies, execution: CommandRecord): Promise<void> {
  const job = await store.jobs.get(execution.jobId);
  const mode = job === undefined ? undefined : fromBinary(JobSpecSchema, job.spec).stdinMode;
  if (mode === StdinMode.STREAM) return;
  throw new LonglineError(
    'wrong_state',
    `execution ${execution.id} takes no input: its job was not submitted with STDIN_MODE_STREAM`,
  );
}

function answer(state: InputState, request: WriteInputRequest): InputOutcome | undefined {
  const offset = Number(request.offset);
  const wanted = offset + request.data.length;
  const complete = state.accepted >= wanted && (!request.end || state.ended);
  // Behind what the caller begins with: bytes were lost with another controller process; it has to go back.
  if (!state.closed && !complete && state.accepted >= offset) return undefined;
  return { acceptedOffset: BigInt(state.accepted), closed: state.closed };
}

/** Writes input; resolves once there was room for it, or none is wanted. Throws `unavailable` if the agent doesn't answer. */
export async function writeInput(
  needs: ServiceDependencies,
  request: WriteInputRequest,
  signal: AbortSignal,
): Promise<InputOutcome> {
  const { store, bus, clock, options } = needs;
  if (request.data.length > MAX_DATA_BYTES) {
    throw invalid([
      { field: 'data', description: `has ${request.data.length} bytes; at most ${MAX_DATA_BYTES} are allowed` },
    ]);
  }
  if (request.offset > BigInt(Number.MAX_SAFE_INTEGER))
    throw invalid([{ field: 'offset', description: `${request.offset} is too large` }]);
  const execution = await findExecution(store, request.jobId);
  await checkTakesInput(needs, execution);
  using states = await bus.subscribe(inputStateTopic(execution.id), 16);
  using changes = await bus.subscribe(jobTopic(execution.jobId), 16);
  const deadline = clock.monotonic() + options.inputWaitMs;
  let last: InputState | undefined;
  while (!signal.aborted && clock.monotonic() < deadline) {
    const current = await store.commands.get(execution.id);
    if (current === undefined || isEnded(current.jobState)) {
      return { acceptedOffset: BigInt(last?.accepted ?? request.offset), closed: true };
    }
    // Input travels on another stream than commands: sent before the agent has the command it would find nobody.
    if (current.jobState === JobState.PENDING) {
      await nextWithin(changes, clock, REPEAT_MS, signal);
      continue;
    }
    const { data, end } = request;
    bus.publish(agentInputTopic(execution.agentId), {
      executionId: execution.id,
      offset: Number(request.offset),
      data,
      end,
    });
    const event = await nextWithin(states, clock, REPEAT_MS, signal);
    if (event?.kind !== 'message') continue;
    last = event.message;
    const outcome = answer(last, request);
    if (outcome !== undefined) return outcome;
  }
  signal.throwIfAborted();
  if (last !== undefined) return { acceptedOffset: BigInt(last.accepted), closed: false };
  throw new LonglineError(
    'unavailable',
    `agent ${execution.agentId} took no input within ${options.inputWaitMs} ms; it may be away`,
  );
}
