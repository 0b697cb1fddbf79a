// Waiting until a program of an agent is as it was asked for, and what is said when it won't be.
import type { Program } from '#gen/longline/fleet/v1/program_service_pb.js';
import { ErrorReason, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import { ProgramState } from '#gen/longline/v1/program_pb.js';
import { LonglineError, type Reason } from '../../core/errors.ts';
import type { Fleet } from '../fleet-connection.ts';
import type { CliIo } from '../io.ts';
import { plainText } from '../table.ts';
import { waitFor } from '../waiting.ts';
import { programStateText } from './views.ts';

const RUNNING: ReadonlySet<ProgramState> = new Set([
  ProgramState.ATTACHED,
  ProgramState.PROBATION,
  ProgramState.ACTIVE,
]);

/** The program of this name; undefined if there is none. */
export async function existingProgram(fleet: Fleet, agentId: string, name: string): Promise<Program | undefined> {
  return (await fleet.programs.listPrograms({ filter: { agentId, name } })).programs[0];
}

/** True if what is wanted runs, also if it is still watched. With problems something else may, as the revision before. */
export function isRunning({ applied, spec, status }: Program): boolean {
  return (
    applied &&
    status !== undefined &&
    RUNNING.has(status.state) &&
    status.problems.length === 0 &&
    (spec === undefined || status.current?.artifact === spec.artifact)
  );
}

/** True if it won't run by itself, or only once something else is mended; the revision before may run meanwhile. */
export function isFailed({ applied, spec, status }: Program): boolean {
  if (!applied || status === undefined) return false;
  const { problems, quarantined, state, wantedArtifact } = status;
  if (quarantined || state === ProgramState.FAILED || state === ProgramState.EXPIRED) return true;
  const isOfIt = spec === undefined || wantedArtifact === spec.artifact;
  return isOfIt && RUNNING.has(state) && problems.some(({ error }) => error?.retryable === false);
}

/** Tells of each change until the program runs or has failed; gives it as it is then. Throws what the agent refused. */
export async function waitUntilRunning(
  io: CliIo,
  fleet: Fleet,
  agentId: string,
  name: string,
  limitMs: number,
): Promise<Program> {
  let told = '';
  let last: Program | undefined;
  return await waitFor(
    fleet,
    limitMs,
    async () => {
      last = await existingProgram(fleet, agentId, name);
      if (last?.error !== undefined) throw refusal(agentId, name, last.error);
      const state = last === undefined ? 'unknown' : `${programStateText(last)}${passingText(last)}`;
      if (state !== told && !io.json) await io.note(plainText(`${agentId} ${name}: ${state}`));
      told = state;
      return last !== undefined && (isRunning(last) || isFailed(last)) ? last : undefined;
    },
    () => plainText(`program ${name} of agent ${agentId} is ${told}`),
  );
}

/** What is in the way for now, and tried again; empty for nothing. */
function passingText({ applied, status }: Program): string {
  const problem = applied ? status?.problems.find(({ error }) => error?.retryable === true) : undefined;
  return problem === undefined ? '' : ` (${problem.field}: ${problem.error?.message ?? ''})`;
}

/** Waits until the agent has it no more. */
export async function waitUntilGone(fleet: Fleet, agentId: string, name: string, limitMs: number): Promise<void> {
  let last: Program | undefined;
  await waitFor(
    fleet,
    limitMs,
    async () => {
      last = await existingProgram(fleet, agentId, name);
      return last === undefined ? true : undefined;
    },
    () => `program ${name} of agent ${agentId} is ${last === undefined ? 'unknown' : programStateText(last)}`,
  );
}

/** Says on standard error what is not as wanted, with what the verifier said. */
export async function noteProblems(io: CliIo, { status }: Program): Promise<void> {
  for (const { error, field, verifierLog } of status?.problems ?? []) {
    await io.note(`${io.paint('red', 'problem', io.stderr)}: ${plainText(`${field}: ${error?.message ?? ''}`)}`);
    if (verifierLog !== '') for (const line of verifierLog.trimEnd().split('\n')) await io.note(`  ${plainText(line)}`);
  }
}

function refusal(agentId: string, name: string, error: WireError): LonglineError {
  const reason = (ErrorReason[error.reason] ?? 'INTERNAL').toLowerCase() as Reason;
  return new LonglineError(reason, `agent ${agentId} refused program ${name}: ${error.message}`, {
    violations: error.violations,
  });
}
