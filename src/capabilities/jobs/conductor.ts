// Carries a job through: it chooses a course from what is left of it (nothing, a container, a record), follows it, and
// chooses anew when the engine went away. It never starts a job that may have run before.

import type { CapabilityCommand } from '../../core/capability.ts';
import { LonglineError } from '../../core/errors.ts';
import { OutputRecorder } from '../../core/output/output-recorder.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { traced } from '../../core/tracer.ts';
import { launchCold } from './cold-launch.ts';
import { keepLogBytes } from './config.ts';
import { EngineLoss } from './engine-loss.ts';
import type { JobStep, Verdict } from './events.ts';
import { foundAgain } from './found-container.ts';
import type { InputDelivery } from './input-delivery.ts';
import { follow, type LiveContainer, recovered } from './live-container.ts';
import { checkMounts } from './mount-check.ts';
import { type Course, chooseCourse, containerName, containerSpec, LABEL } from './plan.ts';
import type { ContainerFacts } from './ports.ts';
import { early, type Preparation } from './preparation.ts';
import { EarlyEnd, type RunControl } from './run-control.ts';
import type { RunState } from './run-state.ts';
import type { JobServices } from './services.ts';
import { recordKept, type Supervised, supervise } from './supervision.ts';
import { judge, stoppedUnstarted, unknown, unstarted, unstoppable } from './verdict.ts';
import { launchWarm } from './warm-launch.ts';

/** One job and what is needed for it. */
export interface ConductorParts {
  readonly services: JobServices;
  readonly command: CapabilityCommand;
  /** An earlier process may have begun it. */
  readonly resumed: boolean;
  readonly control: RunControl;
  readonly preparation: Preparation;
  readonly state: RunState;
  readonly input: InputDelivery;
  tell(step: JobStep): void;
}

const MAX_LAUNCHES = 5;

/** Conducts one job whose spec is parsed. Throws EarlyEnd or LetGo to end otherwise than with a verdict of its own. */
export class Conductor {
  readonly #parts: ConductorParts;
  #launches = 0;
  #mayBeWarm = true;
  readonly #loss: EngineLoss;

  constructor(parts: ConductorParts) {
    this.#parts = parts;
    this.#loss = new EngineLoss(parts.services.clock, parts.services.config.engineLossLimitMs);
  }

  /** Runs it, or goes on with it, to its verdict. */
  async conduct(): Promise<Verdict> {
    let course: Course | undefined;
    for (;;) {
      try {
        course ??= this.#parts.resumed ? await this.#observe() : { kind: 'launch' };
        const next = await this.#take(course);
        if ('state' in next) return next;
        course = next;
      } catch (error) {
        if (!(error instanceof LonglineError) || error.reason !== 'unavailable') throw error;
        course = await this.#reconnect(error);
      }
    }
  }

  async #take(course: Course): Promise<Verdict | Course> {
    const { services, state, input } = this.#parts;
    switch (course.kind) {
      case 'launch':
        return await this.#launch();
      case 'replace':
        // In this order: a record without a container would count as one that may have run.
        await input.forget();
        await services.engine.remove(state.observed!.id);
        return { kind: 'launch' };
      case 'follow':
        return await this.#follow();
      case 'collect':
        return await this.#collect();
      case 'lost': {
        const message = 'the container of the job is gone, and nothing tells whether it ran to its end';
        return unknown(this.#loss.seen ? 'engine_lost' : 'interrupted', new LonglineError('unavailable', message));
      }
    }
  }

  async #launch(): Promise<Verdict | Course> {
    const { services, state, control, preparation, command, resumed, tell } = this.#parts;
    if (++this.#launches > MAX_LAUNCHES) {
      const error = new LonglineError(
        'unavailable',
        `the engine went away in each of ${MAX_LAUNCHES} tries to start it`,
      );
      throw new EarlyEnd(unstarted('failed', 'start_failed', error));
    }
    control.armExpiry(command.expiresAtMs);
    await preparation.place(resumed);
    const image = await preparation.resolveImage(state.spec!);
    control.early.throwIfAborted();
    state.imageName = image.pinned;
    const spec = containerSpec(state.spec!, { executionId: command.id, instanceId: services.instanceId, image });
    try {
      checkMounts(spec.mounts, services.paths);
    } catch (error) {
      throw early(error, (cause) => unstarted('failed', 'start_failed', cause));
    }
    try {
      const openLog = () => this.#openLog();
      const parts = { services, state, executionId: command.id, spec, openLog, signal: control.early };
      if (this.#mayBeWarm) {
        const warming = launchWarm({ ...parts, image, committed: () => preparation.committed() });
        const warm = await warming.catch((error: unknown) => {
          throw early(error, (cause) => unstarted('failed', 'host_limit', cause));
        });
        if (warm !== undefined) return await this.#attend(warm);
      }
      await preparation.committed();
      tell({ kind: 'creating', image: state.imageName });
      return await this.#attend(await launchCold(parts));
    } catch (error) {
      // An earlier try whose answer got lost, or one by a process before this: see what is there.
      if (error instanceof LonglineError && error.reason === 'already_exists') return await this.#observe();
      throw error;
    }
  }

  async #attend(live: LiveContainer): Promise<Verdict | Course> {
    const { control, state, input, tell } = this.#parts;
    const spec = state.spec!;
    state.phase = { kind: 'running', containerId: live.id };
    state.ran = { containerId: live.id, startedAtMs: live.startedAtMs, warm: live.warm };
    control.armTimeout(live.startedAtMs, spec.timeoutMs);
    if (!state.foundAgain) tell({ kind: 'started', containerId: live.id, atMs: live.startedAtMs, warm: live.warm });
    const given = input.give(live);
    try {
      const supervised = await this.#supervise(live);
      if (supervised.kind === 'refused') return await this.#afterRefusal(supervised.why);
      if (supervised.kind === 'stuck') return unstoppable(live.id, control.cause!);
      return await this.#conclude(supervised.exitCode);
    } finally {
      live.close();
      await given;
    }
  }

  async #supervise(live: LiveContainer): Promise<Supervised> {
    const { services, control, state, tell } = this.#parts;
    const { stopGraceMs, outputBytes } = state.spec!;
    const attributes = { [ATTRIBUTE.containerId]: live.id, [ATTRIBUTE.warm]: live.warm };
    return await traced(services.tracer, SPAN.container, { attributes }, async (span) => {
      const supervised = await supervise({
        ...{ services, control, live, tell, stopGraceMs },
        recorder: state.recorder!,
        noticed: state.noticed,
        keptLogBytes: keepLogBytes(outputBytes),
      });
      if (supervised.kind === 'ended') span.set({ [ATTRIBUTE.exitCode]: supervised.exitCode });
      else span.fail('the container could not be made to run the job, or to end', supervised.kind);
      return supervised;
    });
  }

  async #conclude(exitCode: number | undefined): Promise<Verdict> {
    const { services, state } = this.#parts;
    const ran = state.ran!;
    // What the engine knows beyond the exit code is worth a question, not a wait for an engine that went away.
    const facts = await services.engine.inspect(ran.containerId).catch(() => undefined);
    if (!ran.warm && facts?.startedAtMs !== undefined) state.ran = { ...ran, startedAtMs: facts.startedAtMs };
    return this.#judge(exitCode ?? facts?.exitCode, facts);
  }

  async #follow(): Promise<Verdict | Course> {
    const { services, state, preparation, tell } = this.#parts;
    const found = foundAgain(state, services.clock);
    preparation.takePlaceAnyway();
    const recorder = await this.#openLog();
    const live = await follow(services.engine, found, recorder, keepLogBytes(state.spec!.outputBytes));
    if (live === undefined) return await this.#observe();
    const offsets = { stdoutOffset: recorder.position('stdout'), stderrOffset: recorder.position('stderr') };
    tell({ kind: 'adopted', containerId: found.id, ...offsets });
    return await this.#attend(live);
  }

  async #collect(): Promise<Verdict | Course> {
    const { services, state, control, tell } = this.#parts;
    const { engine, hostBootedAtMs } = services;
    const found = foundAgain(state, services.clock);
    const facts = state.observed!;
    const recorder = await this.#openLog();
    const offsets = { stdoutOffset: recorder.position('stdout'), stderrOffset: recorder.position('stderr') };
    tell({ kind: 'adopted', containerId: found.id, ...offsets });
    state.ran = { containerId: found.id, startedAtMs: found.startedAtMs, warm: found.screen !== undefined };
    const reading = { follow: false, signal: control.gone };
    const rest = recovered(engine, found, recorder, keepLogBytes(state.spec!.outputBytes), reading);
    await Promise.race([recordKept(rest, recorder, services, control.gone), control.whenGone]);
    if (found.screen?.refusal !== undefined) return await this.#afterRefusal(found.screen.refusal);
    // Whoever was running when the host went down is said to have ended when it came up.
    if (found.startedAtMs < hostBootedAtMs && (facts.finishedAtMs ?? hostBootedAtMs) >= hostBootedAtMs) {
      return unknown('interrupted', new LonglineError('unavailable', 'the host went down while the job ran'));
    }
    return this.#judge(facts.exitCode, facts);
  }

  #judge(exitCode: number | undefined, facts: ContainerFacts | undefined): Verdict {
    const { services, state, control, tell } = this.#parts;
    if (facts?.oomKilled) state.noticed.oomSeen = true;
    state.endedAtMs = facts?.finishedAtMs ?? services.clock.now();
    const verdict = judge({
      exitCode,
      stoppedFor: state.noticed.signalled ? control.cause : undefined,
      oomSeen: state.noticed.oomSeen,
      // A job that went on running while the engine was away was not ended by it.
      engineWasLost: this.#loss.seen && state.phase.kind === 'reconnecting',
      inputCut: state.foundAgain && !state.inputDone,
    });
    if (verdict.reason === 'out_of_memory') tell({ kind: 'out_of_memory', main: true });
    return verdict;
  }

  // The init never became the job, so it can run cold, as if there had been no warm container.
  async #afterRefusal(why: string): Promise<Verdict | Course> {
    const { services, state, control, input, command } = this.#parts;
    services.log.info('a warm container could not run a job', { executionId: command.id, why });
    await input.forget();
    services.reaper.removeLater(state.ran!.containerId);
    state.ran = undefined;
    this.#mayBeWarm = false;
    if (control.cause !== undefined) return stoppedUnstarted(control.cause);
    const kind = state.spec!.input.kind;
    if (kind === 'stream' && !input.gate.reopen()) {
      return unstarted('failed', 'start_failed', new LonglineError('invalid', `${state.spec!.argv[0]}: ${why}`));
    }
    state.inputDone = kind === 'none';
    state.foundAgain = false;
    return { kind: 'launch' };
  }

  /** Looks for what is left of the job. Throws `unavailable` if the engine is away. */
  async #observe(): Promise<Course> {
    const { services, state, command } = this.#parts;
    state.record = await services.records.get(command.id);
    const warm = state.record?.warm === true;
    const facts = await services.engine.inspect(warm ? state.record!.containerId : containerName(command.id));
    if (facts !== undefined && facts.labels[LABEL.instance] !== services.instanceId) {
      const message = `the container name ${facts.name} is taken by a container that is not this agent's`;
      throw new EarlyEnd(unstarted('failed', 'start_failed', new LonglineError('already_exists', message)));
    }
    state.observed = facts;
    return chooseCourse(facts, state.record);
  }

  async #reconnect(cause: LonglineError): Promise<Course> {
    const { services, state, control, command } = this.#parts;
    const { log } = services;
    log.warn('the container engine is away; asking again', { executionId: command.id, detail: cause.message });
    state.phase = { kind: 'reconnecting' };
    this.#loss.begin();
    for (let error = cause; ; ) {
      if (!(await this.#loss.pause(control.gone))) throw new EarlyEnd(await this.#givenUp(error));
      try {
        return await this.#observe();
      } catch (again) {
        if (!(again instanceof LonglineError) || again.reason !== 'unavailable') throw again;
        error = again;
      }
    }
  }

  async #givenUp(error: LonglineError): Promise<Verdict> {
    const { services, control, command, state } = this.#parts;
    const record = await services.records.get(command.id);
    if (record === undefined && state.ran === undefined) {
      // Not started, but perhaps made: the name is enough to remove it by.
      services.reaper.removeLater(containerName(command.id));
      if (control.cause === 'cancelled') return unstarted('cancelled', 'cancelled');
      return unstarted('failed', 'start_failed', error);
    }
    const { observed, recorder } = state;
    if (observed?.exitCode !== undefined && recorder !== undefined) {
      // How it ended is known; the rest of its output can't be had.
      await recorder.declareLoss();
      return this.#judge(observed.exitCode, observed);
    }
    if (record !== undefined) services.reaper.removeLater(record.containerId);
    const awayMs = services.config.engineLossLimitMs;
    const message = `the engine was away for more than ${awayMs / 1000} s while the job ran: ${error.message}`;
    return unknown('engine_lost', new LonglineError('unavailable', message), state.noticed.oomSeen);
  }

  async #openLog(): Promise<OutputRecorder> {
    const { services, state, command } = this.#parts;
    if (state.recorder !== undefined) return state.recorder;
    try {
      const log = await services.logs.open(command.id);
      state.recorder = new OutputRecorder(log, state.spec!.outputBytes, services.clock);
      return state.recorder;
    } catch (cause) {
      const error = new LonglineError('limit', 'the log for the output could not be opened', { cause });
      throw new EarlyEnd(unstarted('failed', 'host_limit', error));
    }
  }
}
