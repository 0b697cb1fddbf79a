// A job's container while it runs, however we came to it: launched, taken warm, or found again.
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { type OutputRecorder, unseen } from '../../core/output/output-recorder.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { type Tracer, traced } from '../../core/tracer.ts';
import { type PumpEnd, pumpOutput } from './output-pump.ts';
import { LAUNCH, type LaunchStep, UNDO } from './plan.ts';
import type { Attachment, ContainerEngine, ContainerExit, ContainerSpec, OutputPiece } from './ports.ts';
import type { RunRecord, RunRecords } from './run-record.ts';
import { fulfils } from './waits.ts';
import type { RefusalScreen } from './warm-init.ts';

const DETACH_MS = 5000;

/** A running container and the ways to it. Whoever holds it closes it; closing leaves the container alone. */
export interface LiveContainer {
  readonly id: string;
  readonly startedAtMs: number;
  readonly warm: boolean;
  /** From the first byte not seen before. One reader. Throws if the connection breaks. */
  readonly output: AsyncIterable<OutputPiece>;
  /** Set if the output is being recorded already, which is when nobody else may read it. */
  readonly pump?: Promise<PumpEnd>;
  /** Fulfils when it ends; rejects if the engine is lost. */
  readonly exit: Promise<ContainerExit>;
  /** Why its warm init could not become the job, which then never ran. Known when the output has ended. */
  refusal(): string | undefined;
  /** Takes its input; undefined where input can't be given (any more). */
  readonly input: Attachment | undefined;
  /** Destroys the connections. Idempotent. */
  close(): void;
}

/** What a launch works with. */
export interface LaunchParts {
  readonly engine: ContainerEngine;
  readonly records: RunRecords;
  readonly clock: Clock;
  readonly tracer: Tracer;
  readonly executionId: string;
  readonly spec: ContainerSpec;
  /** False if input is still to be given to it. */
  readonly inputDone: boolean;
  /** Where its output goes; must be ready before start, since output may come before the engine has answered. */
  readonly recorder: Promise<OutputRecorder>;
  /** Checked before start, after which the job counts as run. */
  readonly signal: AbortSignal;
  readonly log: { warn(message: string, fields?: Readonly<Record<string, unknown>>): void };
}

/**
 * Creates, records, attaches, arms and starts. If a step fails or the signal aborts, the steps done are undone in reverse
 * order and the failure is thrown; but where the engine is `unavailable` nothing is undone, because nothing is known.
 */
export async function launch(parts: LaunchParts): Promise<LiveContainer> {
  const launching = new Launch(parts);
  const done: LaunchStep[] = [];
  try {
    for (const group of LAUNCH) {
      if (parts.signal.aborted) throw parts.signal.reason;
      const outcomes = await Promise.allSettled(group.map((step) => launching.perform(step)));
      for (const [index, outcome] of outcomes.entries()) if (outcome.status === 'fulfilled') done.push(group[index]!);
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      await parts.recorder;
    }
    return launching.result();
  } catch (error) {
    if (error instanceof LonglineError && error.reason === 'unavailable') await launching.detach();
    else for (const step of done.reverse()) await launching.undo(step);
    throw error;
  }
}

class Launch {
  readonly #parts: LaunchParts;
  #id = '';
  #attachment: Attachment | undefined;
  #pump: Promise<PumpEnd> | undefined;
  #exit: Promise<ContainerExit> | undefined;
  #startedAtMs = 0;

  constructor(parts: LaunchParts) {
    this.#parts = parts;
  }

  async perform(step: LaunchStep): Promise<void> {
    const { engine, records, clock, executionId, spec, tracer } = this.#parts;
    switch (step) {
      case 'create':
        this.#id = await traced(tracer, SPAN.create, {}, () => engine.createContainer(spec));
        return;
      case 'record': {
        const record: RunRecord = {
          containerId: this.#id,
          warm: false,
          atMs: clock.now(),
          inputDone: this.#parts.inputDone,
        };
        return await records.put(executionId, record);
      }
      case 'attach':
        this.#attachment = await engine.attach(this.#id, spec.openStdin);
        return;
      case 'arm':
        this.#exit = (await engine.armExit(this.#id)).exit;
        // Whoever supervises looks at it; until then a rejection must not end the process.
        this.#exit.catch(() => undefined);
        return;
      case 'start':
        this.#pump = pumpOutput(this.#attachment!.output, await this.#parts.recorder);
        await traced(tracer, SPAN.start, { attributes: { [ATTRIBUTE.containerId]: this.#id } }, () =>
          engine.start(this.#id),
        );
        this.#startedAtMs = clock.now();
        return;
    }
  }

  async undo(step: LaunchStep): Promise<void> {
    const { engine, records, executionId, log } = this.#parts;
    const failed = (error: unknown) => log.warn('could not undo a step of a launch', { step, executionId, err: error });
    switch (UNDO[step]) {
      case 'detach':
        return await this.detach();
      case 'forget':
        return await records.delete(executionId).catch(failed);
      case 'remove':
        return await engine.remove(this.#id).catch(failed);
      case 'nothing':
        return;
    }
  }

  /** When it resolves nothing is recorded any more, unless the log hangs. */
  async detach(): Promise<void> {
    this.#attachment?.destroy();
    if (this.#pump !== undefined) await fulfils(this.#pump, DETACH_MS, this.#parts.clock);
  }

  result(): LiveContainer {
    const attachment = this.#attachment!;
    return {
      id: this.#id,
      startedAtMs: this.#startedAtMs,
      warm: false,
      refusal: () => undefined,
      output: attachment.output,
      pump: this.#pump!,
      exit: this.#exit!,
      input: this.#parts.spec.openStdin ? attachment : undefined,
      close: () => attachment.destroy(),
    };
  }
}

/** What is known of a container that runs already. */
export interface FoundAgain {
  readonly id: string;
  readonly startedAtMs: number;
  /** Screens the output of a warm container. */
  readonly screen: RefusalScreen | undefined;
}

/**
 * Connects to a container that runs already: its kept output from the first byte, going on until it ends, less what
 * `recorder` has. Undefined if it had ended by the time the wait for its end was armed.
 */
export async function follow(
  engine: ContainerEngine,
  found: FoundAgain,
  recorder: OutputRecorder,
  keptLogBytes: number,
): Promise<LiveContainer | undefined> {
  const { id, startedAtMs, screen } = found;
  const { exit } = await engine.armExit(id);
  exit.catch(() => undefined);
  // Armed on a container that had just ended, the wait would be for an end that never comes.
  const facts = await engine.inspect(id);
  if (facts === undefined || !['running', 'paused', 'restarting'].includes(facts.state)) return undefined;
  const reading = new AbortController();
  return {
    id,
    startedAtMs,
    warm: screen !== undefined,
    refusal: () => screen?.refusal,
    output: recovered(engine, found, recorder, keptLogBytes, { follow: true, signal: reading.signal }),
    exit,
    input: undefined,
    close: () => reading.abort(new LonglineError('cancelled', 'the output is not followed any more')),
  };
}

/** What the engine kept of a container's output and `recorder` has not seen. */
export function recovered(
  engine: ContainerEngine,
  found: FoundAgain,
  recorder: OutputRecorder,
  keptLogBytes: number,
  reading: { readonly follow: boolean; readonly signal: AbortSignal },
): AsyncIterable<OutputPiece> {
  const pieces = engine.readLogs(found.id, reading.follow, reading.signal);
  return unseen(found.screen === undefined ? pieces : found.screen.screen(pieces), recorder, keptLogBytes);
}
