// One job from its command to its result, its events and its input. Its container and record outlive the result until
// whoever reads the events has come back for more, which is when the result is durable elsewhere.
import type { CapabilityCommand, CommandContext } from '../../core/capability.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { Conductor } from './conductor.ts';
import { EventStream } from './event-stream.ts';
import type { JobEnding, JobStep, Verdict } from './events.ts';
import { InputDelivery } from './input-delivery.ts';
import type { ClosedStream } from './ports.ts';
import { early, Preparation } from './preparation.ts';
import { EarlyEnd, LetGo, RunControl } from './run-control.ts';
import { newRunState, type RunPhase, type RunState } from './run-state.ts';
import type { JobServices } from './services.ts';
import { parseJobSpec } from './spec.ts';
import { unknown, unstarted } from './verdict.ts';
import { fulfils } from './waits.ts';
import { decodeJobAction } from './wire.ts';

const CLOSE_MS = 30_000;

/** One job. It begins when its events are first read. */
export class JobRun {
  readonly events: EventStream;
  readonly input: InputDelivery;
  readonly #services: JobServices;
  readonly #command: CapabilityCommand;
  readonly #context: CommandContext;
  readonly #control: RunControl;
  readonly #preparation: Preparation;
  readonly #state: RunState = newRunState();

  /** @param onBegin is given a promise that resolves when nothing of the job is left in this process. */
  constructor(
    services: JobServices,
    command: CapabilityCommand,
    context: CommandContext,
    onBegin: (run: JobRun, settled: Promise<void>) => void,
  ) {
    this.#services = services;
    this.#command = command;
    this.#context = context;
    this.#control = new RunControl(services.clock, context.signal);
    const tell = (step: JobStep) => this.events.step(step);
    this.#preparation = new Preparation(services, this.#control, context.durable, tell);
    this.input = new InputDelivery(command.id, services.records, this.#state, services.log);
    this.events = new EventStream(
      () => onBegin(this, this.#main()),
      () => this.letGo(),
    );
  }

  get phase(): RunPhase {
    return this.#state.phase;
  }

  /** Leaves the container as it is, without a result. */
  letGo(): void {
    this.#control.letGo();
    this.events.abandon();
  }

  async #main(): Promise<void> {
    const { log, reaper } = this.#services;
    try {
      const ending = await this.#carryOut();
      this.input.gate.close();
      if (ending === undefined) return;
      this.#state.phase = { kind: 'ended' };
      if (!(await this.events.finish(ending))) return;
      const containerId = this.#state.ran?.containerId ?? this.#state.observed?.id;
      if (containerId !== undefined) await reaper.remove(containerId);
      await this.input.forget();
    } catch (error) {
      log.error('could not tidy up after a job', { executionId: this.#command.id, err: error });
    } finally {
      this.#state.phase = { kind: 'over' };
      this.input.gate.close();
      this.#control[Symbol.dispose]();
      this.events.abandon();
    }
  }

  async #carryOut(): Promise<JobEnding | undefined> {
    using _place = this.#preparation;
    try {
      return await this.#ending(await this.#conduct());
    } catch (error) {
      if (error instanceof LetGo) return undefined;
      if (error instanceof EarlyEnd) return await this.#ending(error.verdict);
      this.#services.log.error('a job failed for a reason of ours', { executionId: this.#command.id, err: error });
      const cause = toLonglineError(error);
      const ran = this.#state.ran !== undefined;
      return await this.#ending(ran ? unknown('interrupted', cause) : unstarted('failed', 'start_failed', cause));
    }
  }

  async #conduct(): Promise<Verdict> {
    const state = this.#state;
    try {
      state.spec = parseJobSpec(decodeJobAction(this.#command.action), this.#services.config);
    } catch (error) {
      throw early(error, (cause) => unstarted('rejected', 'rejected', cause));
    }
    state.inputDone = state.spec.input.kind === 'none';
    if (state.spec.input.kind !== 'stream') this.input.gate.close();
    return await new Conductor({
      services: this.#services,
      command: this.#command,
      resumed: this.#context.resumed,
      control: this.#control,
      preparation: this.#preparation,
      state,
      input: this.input,
      tell: (step) => this.events.step(step),
    }).conduct();
  }

  async #ending(verdict: Verdict): Promise<JobEnding> {
    const { recorder, ran, noticed, imageName } = this.#state;
    const closed = recorder === undefined ? [] : await this.#closeLog();
    const bytes = (stream: 'stdout' | 'stderr') => recorder?.position(stream) ?? 0;
    const failed = closed instanceof LonglineError;
    return {
      ...(failed ? spoiled(verdict, closed) : verdict),
      ...(ran === undefined ? {} : { startedAtMs: ran.startedAtMs }),
      endedAtMs: this.#state.endedAtMs ?? this.#services.clock.now(),
      stdoutBytes: bytes('stdout'),
      stderrBytes: bytes('stderr'),
      truncated: failed || closed.some((stream) => stream.gapBytes > 0),
      cpuNanos: noticed.usage.cpuNanos,
      memoryPeakBytes: noticed.usage.memoryPeakBytes,
      image: imageName === '' ? (this.#state.spec?.image.text ?? '') : imageName,
      containerId: ran?.containerId ?? '',
      warm: ran?.warm ?? false,
      queueMs: this.#preparation.queueMs,
    };
  }

  async #closeLog(): Promise<readonly ClosedStream[] | LonglineError> {
    const closing = this.#state.recorder!.close();
    try {
      if (await fulfils(closing, CLOSE_MS, this.#services.clock)) return await closing;
      closing.catch(() => undefined);
      return new LonglineError('limit', `the log of the output could not be closed within ${CLOSE_MS / 1000} s`);
    } catch (error) {
      return toLonglineError(error);
    }
  }
}

// A job whose output could not be kept did not succeed, whatever its exit code; how it was stopped stays as it is.
function spoiled(verdict: Verdict, error: LonglineError): Verdict {
  if (verdict.state !== 'succeeded' && verdict.state !== 'failed') return { ...verdict, error: verdict.error ?? error };
  return { ...verdict, state: 'failed', reason: 'host_limit', error };
}
