// One job as a stream: its executions as they change, and their output as it comes. Everything passes through one bounded
// channel, so a caller that reads slowly slows this reader and nobody else.
import { create } from '@bufbuild/protobuf';
import { type RunJobResponse, RunJobResponseSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import { Channel } from '../../core/channel.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { Subscription } from '../bus/bus.ts';
import { type JobChange, jobTopic } from '../bus/topics.ts';
import type { CommandRecord } from '../store/command.ts';
import { isEnded } from '../store/job-state.ts';
import { executionsOf } from './job-lookup.ts';
import { followLog, WHOLE_LOG } from './log-follower.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { executionView } from './views.ts';
import { nextWithin } from './waiting.ts';

/** Events waiting for a slow caller. */
const CHANNEL_EVENTS = 32;

/** Changes that may wait; more, and all executions are looked through. */
const PENDING_CHANGES = 1024;

type Event = RunJobResponse['event'];

interface Followed {
  version: number;
  readonly ended: AbortController;
}

/** Follows one job. */
class JobFollower {
  readonly #needs: ServiceDependencies;
  readonly #jobId: string;
  readonly #signal: AbortSignal;
  readonly #events = new Channel<Event>(CHANNEL_EVENTS);
  readonly #executions = new Map<string, Followed>();
  #open = 0;

  constructor(needs: ServiceDependencies, jobId: string, signal: AbortSignal) {
    this.#needs = needs;
    this.#jobId = jobId;
    this.#signal = signal;
  }

  async *events(changes: Subscription<JobChange>): AsyncGenerator<Event, void, undefined> {
    await using group = new TaskGroup(this.#signal);
    for (const execution of await executionsOf(this.#needs.store, this.#jobId)) {
      const followed: Followed = { version: 0, ended: new AbortController() };
      this.#executions.set(execution.id, followed);
      this.#open += 1;
      group.spawn((signal) => this.#output(execution, followed.ended.signal, signal));
    }
    group.spawn((signal) => this.#changes(changes, signal));
    void group.wait().then(
      () => this.#events.close(),
      (error: unknown) => this.#events.fail(error),
    );
    yield* this.#events;
  }

  async #output(execution: CommandRecord, ended: AbortSignal, signal: AbortSignal): Promise<void> {
    for await (const output of followLog(this.#needs, { execution, range: WHOLE_LOG, ended, signal })) {
      await this.#events.send({ case: 'output', value: output }, signal);
    }
  }

  async #changes(changes: Subscription<JobChange>, signal: AbortSignal): Promise<void> {
    await this.#lookThrough(signal);
    while (this.#open > 0 && !signal.aborted) {
      const event = await nextWithin(changes, this.#needs.clock, this.#needs.options.recheckMs, signal);
      if (event?.kind === 'message' && event.message.commandId !== '')
        await this.#look(event.message.commandId, signal);
      else await this.#lookThrough(signal);
    }
  }

  async #lookThrough(signal: AbortSignal): Promise<void> {
    const versions = await this.#needs.store.commands.versions(this.#jobId);
    for (const [id, { version }] of this.#executions) {
      if (signal.aborted) return;
      if (versions.get(id) !== version) await this.#look(id, signal);
    }
  }

  async #look(id: string, signal: AbortSignal): Promise<void> {
    const followed = this.#executions.get(id);
    if (followed === undefined) return;
    const execution = await this.#needs.store.commands.get(id);
    // Only of a job that has ended is it no longer kept: a caller that is slow may come too late for how.
    if (execution === undefined) return this.#end(followed);
    if (execution.version <= followed.version) return;
    followed.version = execution.version;
    await this.#events.send({ case: 'execution', value: executionView(execution) }, signal);
    if (isEnded(execution.jobState)) this.#end(followed);
  }

  #end({ ended }: Followed): void {
    if (ended.signal.aborted) return;
    this.#open -= 1;
    ended.abort();
  }
}

/** Events of a job until all executions have ended and their output was given. Ends early if `signal` aborts. */
export async function* followJob(
  needs: ServiceDependencies,
  jobId: string,
  signal: AbortSignal,
): AsyncGenerator<RunJobResponse, void, undefined> {
  using changes = await needs.bus.subscribe(jobTopic(jobId), PENDING_CHANGES);
  for await (const event of new JobFollower(needs, jobId, signal).events(changes)) {
    yield create(RunJobResponseSchema, { event });
  }
}
