// Running a job to its end from here: submits and follows over one stream; if that breaks, goes on with the logs from
// the offsets seen and with the job's state, so that no byte is lost or doubled. Knows nothing of how it is shown.
// Fails with what the controller refused, or `unavailable` once the connection stayed away for too long; the job runs on.
import type { JobRequest } from '#gen/longline/fleet/v1/job_service_pb.js';
import { type Job, type JobExecution, JobState } from '#gen/longline/v1/job_pb.js';
import { Channel } from '../../core/channel.ts';
import { systemClock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { Fleet } from '../fleet-connection.ts';
import { type FollowEvent, outputEvents } from './follow-event.ts';
import { ReconnectBudget, type ReconnectLimits } from './reconnect-budget.ts';
import { StreamOffsets } from './stream-offsets.ts';
import { messageOf, tailLog } from './tail.ts';

const STATE_WAIT_SECONDS = 5n;
const STATE_CALL_LIMIT_MS = 20_000;
/** Logs read side by side; a connection takes about 100 streams, and other calls need some. */
const PARALLEL_TAILS = 48;
const RETAIL_PAUSE_MS = 500;

const ENDED: ReadonlySet<JobState> = new Set([
  JobState.SUCCEEDED,
  JobState.FAILED,
  JobState.CANCELLED,
  JobState.TIMED_OUT,
  JobState.REJECTED,
  JobState.INDETERMINATE,
]);

/** True for states that nothing follows. */
export function hasEnded(state: JobState): boolean {
  return ENDED.has(state);
}

/** Follows one job. `events` may be read once. */
export class JobFollower {
  readonly #fleet: Fleet;
  readonly #request: JobRequest;
  readonly #limits: ReconnectLimits | undefined;
  readonly #offsets = new StreamOffsets();
  readonly #closedLogs = new Set<string>();
  #jobId: string | undefined;

  /** The request must carry a request_id: it is sent again if the stream breaks before the job's id came back. */
  constructor(fleet: Fleet, request: JobRequest, limits?: ReconnectLimits) {
    if (request.requestId === '') throw new RangeError('a followed job needs a request_id');
    this.#fleet = fleet;
    this.#request = request;
    this.#limits = limits;
  }

  /**
   * `giveUp` ends the wait for a connection as long as no job was stored; afterwards only cancelling ends a job.
   * `leave` ends the following of a stored job while the controller is away; its reason is thrown.
   */
  async *events(giveUp?: AbortSignal, leave?: AbortSignal): AsyncGenerator<FollowEvent, void> {
    const budget = new ReconnectBudget(this.#limits);
    while (this.#jobId === undefined) {
      try {
        await this.#fleet.bringUp();
        giveUp?.throwIfAborted();
        for await (const { event } of this.#fleet.streams.jobs.runJob({ job: this.#request })) {
          budget.progress();
          if (event.case === 'submitted') {
            this.#jobId = event.value.id;
            yield { kind: 'job', job: event.value };
          } else if (event.case === 'execution') yield { kind: 'execution', execution: event.value };
          else if (event.case === 'output') yield* this.#output(outputEvents(event.value, this.#offsets));
          else if (event.case === 'finished') return yield { kind: 'finished', job: event.value };
        }
        throw new LonglineError('unavailable', 'the controller ended the stream before the job ended');
      } catch (error) {
        await budget.wait(error, (thrown) => this.#fleet.toError(thrown), this.#jobId === undefined ? giveUp : leave);
        yield { kind: 'reconnecting', message: messageOf(this.#fleet.toError(error)) };
      }
    }
    yield* this.#resume(this.#jobId, leave);
  }

  *#output(events: Iterable<FollowEvent>): Generator<FollowEvent> {
    for (const event of events) {
      if (event.kind === 'closed') this.#closedLogs.add(event.executionId);
      yield event;
    }
  }

  /** A budget for a job that is known to exist: a controller that is away at first is waited for. */
  #patience(): ReconnectBudget {
    const budget = new ReconnectBudget(this.#limits);
    budget.progress();
    return budget;
  }

  /** Logs and state by their own calls, each of which resumes by itself. */
  async *#resume(jobId: string, leave: AbortSignal | undefined): AsyncGenerator<FollowEvent, void> {
    let job = yield* this.#refresh(jobId, leave);
    const queue = new Channel<FollowEvent>(16);
    await using group = new TaskGroup(leave);
    const pending = job.executions.filter((execution) => !this.#closedLogs.has(execution.id));
    const ended = new Set(pending.filter((execution) => hasEnded(execution.state)).map((execution) => execution.id));
    const tails = Array.from({ length: Math.min(PARALLEL_TAILS, pending.length) }, async () => {
      for (let execution = pending.shift(); execution !== undefined; execution = pending.shift()) {
        await this.#tail(execution, ended, queue, group.signal);
      }
    });
    group.spawn(async (signal) => {
      job = await this.#watchState(jobId, ended, queue, signal);
    });
    group.spawn(async () => {
      await Promise.all(tails);
    });
    group.wait().then(
      () => queue.close(),
      (error: unknown) => queue.fail(error),
    );
    yield* queue;
    leave?.throwIfAborted();
    yield { kind: 'finished', job };
  }

  async *#refresh(jobId: string, leave: AbortSignal | undefined): AsyncGenerator<FollowEvent, Job> {
    const budget = this.#patience();
    for (;;) {
      try {
        const { job } = await this.#fleet.jobs.getJob({ jobId });
        if (job === undefined) throw new LonglineError('internal', 'the controller gave an answer without a job');
        yield { kind: 'job', job };
        return job;
      } catch (error) {
        await budget.wait(error, (thrown) => this.#fleet.toError(thrown), leave);
      }
    }
  }

  /** Reads a log until it is closed, or its execution has ended and there is no more of it. */
  async #tail(
    execution: JobExecution,
    ended: ReadonlySet<string>,
    queue: Channel<FollowEvent>,
    signal: AbortSignal,
  ): Promise<void> {
    for (;;) {
      const wasEnded = ended.has(execution.id);
      const request = { id: execution.id, streams: [], follow: !wasEnded };
      const events = tailLog(this.#fleet, request, this.#offsets, this.#patience(), signal);
      for (let next = await events.next(); ; next = await events.next()) {
        if (next.done) {
          if (next.value.closed || wasEnded) return;
          break;
        }
        await queue.send(next.value, signal);
      }
      await systemClock.sleep(RETAIL_PAUSE_MS, signal);
    }
  }

  async #watchState(jobId: string, ended: Set<string>, queue: Channel<FollowEvent>, signal: AbortSignal): Promise<Job> {
    const budget = this.#patience();
    for (;;) {
      try {
        const timeout = { seconds: STATE_WAIT_SECONDS, nanos: 0 };
        const { job, done } = await this.#fleet.jobs.waitResult(
          { jobId, timeout },
          { signal, timeoutMs: STATE_CALL_LIMIT_MS },
        );
        if (job === undefined) throw new LonglineError('internal', 'the controller gave an answer without a job');
        budget.progress();
        for (const execution of job.executions) {
          if (hasEnded(execution.state)) ended.add(execution.id);
          await queue.send({ kind: 'execution', execution }, signal);
        }
        if (done) return job;
      } catch (error) {
        await budget.wait(error, (thrown) => this.#fleet.toError(thrown), signal);
      }
    }
  }
}
