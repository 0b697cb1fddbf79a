// Counts commands around those that judge and carry them out; it changes nothing of what they say.
import type { Command } from '#gen/longline/link/v1/link_pb.js';
import type { CapabilityCommand, CapabilityEvent, CommandContext, Outcome } from '../../core/capability.ts';
import type { Clock } from '../../core/clock.ts';
import { GRPC_CODE, type LonglineError, toLonglineError } from '../../core/errors.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import type { AdmittedCommand, CommandAdmission, CommandExecutor } from '../../link/ports.ts';
import { COMMAND_METRICS, JOB_METRICS } from '../../telemetry/metrics/agent-names.ts';
import { commandKind } from './command-kind.ts';

const OUTCOMES: readonly Outcome[] = ['succeeded', 'failed', 'cancelled', 'timed_out', 'indeterminate'];
const REASONS = Object.keys(GRPC_CODE);

/** One per agent. */
export class CommandMeter {
  readonly #clock: Clock;
  readonly #duration;
  readonly #admission;
  readonly #inFlight;
  readonly #rejected;
  readonly #jobsEnded;

  constructor(registry: MetricRegistry, clock: Clock) {
    this.#clock = clock;
    this.#duration = registry.histogram(COMMAND_METRICS.duration);
    this.#admission = registry.histogram(COMMAND_METRICS.admission);
    this.#inFlight = registry.gauge(COMMAND_METRICS.inFlight);
    this.#rejected = registry.counter(COMMAND_METRICS.rejected);
    // There from the start, so that the first one shows as a rise.
    for (const reason of REASONS) this.#rejected.add(0, reason);
    this.#jobsEnded = registry.counter(JOB_METRICS.ended);
    // A share of those that succeed can be told also where none ever did.
    for (const outcome of OUTCOMES) this.#jobsEnded.add(0, outcome);
  }

  /** Counts what an admission refuses, and what is refused around it. */
  admission(inner: CommandAdmission): CommandAdmission {
    return {
      admit: (command, nonceSeen) => this.#admit(inner, command, nonceSeen),
      refused: (command, error) => {
        this.#refused(error);
        inner.refused(command, error);
      },
    };
  }

  /** Counts what an executor carries out. */
  executor(inner: CommandExecutor): CommandExecutor {
    return {
      writeInput: (...input) => inner.writeInput(...input),
      execute: (capability, command, context) => this.#execute(inner, capability, command, context),
    };
  }

  async #admit(
    inner: CommandAdmission,
    command: Command,
    nonceSeen: (nonce: Uint8Array) => boolean,
  ): Promise<AdmittedCommand> {
    const beganMs = this.#clock.monotonic();
    const took = (verdict: string) => this.#admission.observe((this.#clock.monotonic() - beganMs) / 1000, verdict);
    try {
      const admitted = await inner.admit(command, nonceSeen);
      took('admitted');
      // What can't be put on record is refused after all.
      admitted.recorded.catch((error: unknown) => this.#refused(toLonglineError(error)));
      return admitted;
    } catch (error) {
      took('refused');
      this.#refused(toLonglineError(error));
      throw error;
    }
  }

  async *#execute(
    inner: CommandExecutor,
    capability: string,
    command: CapabilityCommand,
    context: CommandContext,
  ): AsyncGenerator<CapabilityEvent, void, undefined> {
    this.#inFlight.add(1, capability);
    try {
      for await (const event of inner.execute(capability, command, context)) {
        if (event.kind === 'result') {
          const seconds = (this.#clock.now() - command.receivedAtMs) / 1000;
          this.#duration.observe(seconds, capability, commandKind(capability, command.action), event.outcome);
          if (capability === 'jobs') this.#jobsEnded.add(1, event.outcome);
        }
        yield event;
      }
    } finally {
      this.#inFlight.add(-1, capability);
    }
  }

  #refused({ reason }: LonglineError): void {
    this.#rejected.add(1, reason);
  }
}
