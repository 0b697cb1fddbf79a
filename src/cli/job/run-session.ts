// One `job run`: shows output as it comes, sends input, cancels on Ctrl-C, and ends with the job's exit code.
import type { JobRequest } from '#gen/longline/fleet/v1/job_service_pb.js';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import type { Job } from '#gen/longline/v1/job_pb.js';
import { JobState, StdinMode } from '#gen/longline/v1/job_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type { Fleet } from '../fleet-connection.ts';
import type { InterruptGuard } from '../interrupt.ts';
import { type CliIo, EXIT } from '../io.ts';
import { JobCancel } from './cancel.ts';
import { jobExitCode } from './exit.ts';
import { hasEnded, JobFollower } from './follow.ts';
import type { FollowEvent } from './follow-event.ts';
import { pumpInput } from './input.ts';
import { agentPrefix, type OutputSink, prefixedSink, rawSink, silentSink } from './output-sink.ts';
import { ProgressLine, waitingText } from './progress-line.ts';

/** After this long without the agent having the job, it is looked up why. */
const PATIENCE_MS = 2000;

/** How a run is shown. */
export interface RunDisplay {
  /** False to keep the job's output from standard output and standard error. */
  readonly output: boolean;
  /** True to send standard input to the job. */
  readonly streamInput: boolean;
}

/** Runs a job to its end, sets the exit code and gives the job as it ended. */
export async function runJob(
  io: CliIo,
  fleet: Fleet,
  request: JobRequest,
  display: RunDisplay,
  interrupt: InterruptGuard,
): Promise<Job> {
  const session = new RunSession(io, fleet, request, display);
  const onInterrupt = () => session.cancel('interrupted by Ctrl-C');
  const onClosed = () => session.cancel('the reader of the output has left');
  interrupt.signal.addEventListener('abort', onInterrupt, { once: true });
  io.stdout.closed.addEventListener('abort', onClosed, { once: true });
  try {
    const job = await session.run(interrupt.signal);
    io.exitCode = io.stdout.closed.aborted ? EXIT.outputClosed : jobExitCode(job);
    return job;
  } finally {
    interrupt.signal.removeEventListener('abort', onInterrupt);
    io.stdout.closed.removeEventListener('abort', onClosed);
  }
}

class RunSession {
  readonly #io: CliIo;
  readonly #fleet: Fleet;
  readonly #request: JobRequest;
  readonly #display: RunDisplay;
  readonly #progress: ProgressLine;
  readonly #cancel: JobCancel;
  readonly #inputEnd = new AbortController();
  #sink: OutputSink;
  #input: Promise<void> | undefined;
  #job: Job | undefined;
  /** Set while a job that was stored waits for its agent. */
  #patience: NodeJS.Timeout | undefined;
  #inputFailure: unknown;

  constructor(io: CliIo, fleet: Fleet, request: JobRequest, display: RunDisplay) {
    this.#io = io;
    this.#fleet = fleet;
    this.#request = request;
    this.#display = display;
    this.#progress = new ProgressLine(io);
    this.#cancel = new JobCancel(fleet);
    this.#sink = display.output ? rawSink(io) : silentSink(io);
  }

  /** Asks the job to end; may be called before it is stored. */
  cancel(reason: string): void {
    this.#cancel.request(reason);
    if (this.#io.stderr.isTty) {
      this.#progress.show('cancelling; press Ctrl-C again to leave at once', true).catch((error: unknown) => {
        this.#inputFailure ??= error;
      });
    }
  }

  /** Follows to the end. `giveUp` ends it only as long as no job is stored. */
  async run(giveUp: AbortSignal): Promise<Job> {
    const follower = new JobFollower(this.#fleet, this.#request);
    let finished: Job | undefined;
    try {
      for await (const event of follower.events(giveUp, this.#cancel.undelivered)) {
        await this.#show(event);
        if (event.kind === 'finished') finished = event.job;
      }
    } catch (error) {
      throw this.#job === undefined ? error : this.#lost(this.#job.id, error);
    } finally {
      clearTimeout(this.#patience);
      await this.#progress.clear();
      await this.#sink.end();
      await this.#endInput();
      await this.#cancel[Symbol.asyncDispose]();
    }
    if (this.#inputFailure !== undefined) throw this.#inputFailure;
    if (finished === undefined) throw new LonglineError('internal', 'the job was followed to no end');
    return finished;
  }

  async #show(event: FollowEvent): Promise<void> {
    switch (event.kind) {
      case 'job':
        return await this.#stored(event.job);
      case 'execution': {
        if (event.execution.state !== JobState.PENDING) clearTimeout(this.#patience);
        const text = waitingText(event.execution);
        if (text === '' || this.#cancel.requested) await this.#progress.clear();
        else await this.#progress.show(text);
        if (hasEnded(event.execution.state)) this.#inputEnd.abort();
        return;
      }
      case 'reconnecting':
        return await this.#progress.show(`connection lost (${event.message}); trying again`, true);
      case 'bytes':
      case 'gap':
        await this.#progress.clear();
        return await this.#sink.take(event);
      default:
    }
  }

  async #stored(job: Job): Promise<void> {
    if (this.#job !== undefined) return;
    this.#job = job;
    this.#cancel.stored(job.id);
    const [only, ...others] = job.executions;
    if (others.length === 0 && only?.state === JobState.PENDING) {
      this.#patience = setTimeout(() => void this.#explainWait(only.agentId), PATIENCE_MS);
    }
    if (this.#request.target?.target.case === 'allOf' && this.#display.output) {
      const width = Math.max(1, ...job.executions.map((execution) => execution.agentId.length));
      this.#sink = prefixedSink(this.#io, (agentId) => agentPrefix(agentId, width));
    }
    if (!this.#display.streamInput) return;
    this.#input = pumpInput(this.#fleet, job.id, this.#io.stdin, this.#inputEnd.signal).catch((error: unknown) => {
      if (!this.#inputEnd.signal.aborted) this.#cancelForInput(error);
    });
  }

  /** A job for an agent that is away would otherwise just look stuck. Whoever reads `--json` sees the state. */
  async #explainWait(agentId: string): Promise<void> {
    if (this.#io.json) return;
    try {
      const { agent } = await this.#fleet.agents.getAgent({ agentId });
      if (agent?.state !== AgentState.OFFLINE && agent?.state !== AgentState.ENROLLED) return;
      const text = `waiting for ${agentId}, which is offline; Ctrl-C cancels the job`;
      if (this.#io.stderr.isTty) await this.#progress.show(text, true);
      else await this.#io.stderr.write(`[longline: ${text}]\n`);
    } catch {
      // Only a hint: a connection that fails shows in the following of the job.
    }
  }

  #cancelForInput(error: unknown): void {
    this.#inputFailure = error;
    this.#cancel.request('its standard input failed');
  }

  /** Input that nobody reads any more must not keep the process alive. */
  async #endInput(): Promise<void> {
    if (this.#input === undefined) return;
    this.#inputEnd.abort();
    this.#io.stdin.destroy();
    await this.#input;
  }

  #lost(jobId: string, error: unknown): unknown {
    if (!(error instanceof LonglineError) || error.reason !== 'unavailable') return error;
    const message = `${error.message}. Job ${jobId} goes on; see \`longline job get ${jobId}\` and \`longline job logs ${jobId}\``;
    return new LonglineError('unavailable', message, { cause: error });
  }
}

/** True if the request wants input that is streamed. */
export function wantsStream(request: JobRequest): boolean {
  return request.spec?.stdinMode === StdinMode.STREAM;
}
