// Signs of life both ways: sends ours on time, measures round trips, and tells when the controller has gone silent.
import { create } from '@bufbuild/protobuf';
import {
  AgentHeartbeatSchema,
  type AgentMessage,
  AgentMessageSchema,
  type ControllerHeartbeat,
} from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../core/clock.ts';
import { LonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { Progress } from '../core/progress.ts';
import type { HostReport } from './ports.ts';
import { wireDuration, wireTime } from './wire.ts';

/** Periods of silence after which the other side counts as gone. */
const SILENT_PERIODS = 3;
/** Sent heartbeats whose answer is still awaited. */
const MAX_UNANSWERED = 16;
/** More than a heartbeat takes on a host that is slow. */
const LATE_MS = 30_000;

/** What it is made from. */
export interface HeartbeatParts {
  readonly clock: Clock;
  readonly report: HostReport;
  readonly log: Logger;
  /** Hears of each heartbeat. */
  readonly progress?: Progress | undefined;
}

/** One per control stream. */
export class Heartbeat {
  readonly #periodMs: number;
  readonly #sendEveryMs: number;
  readonly #clock: Clock;
  readonly #report: HostReport;
  readonly #log: Logger;
  readonly #progress: Progress | undefined;
  readonly #sentAt = new Map<bigint, number>();
  #number = 0n;
  #answers = 0n;
  #heardAt: number;
  #roundTripMs: number | undefined;

  /** @param periodMs what was agreed on; silence is measured by it. @param mostMs ours are sent at least as often. */
  constructor(periodMs: number, mostMs: number, { clock, report, log, progress }: HeartbeatParts) {
    this.#periodMs = periodMs;
    this.#sendEveryMs = Math.min(periodMs, mostMs);
    this.#clock = clock;
    this.#report = report;
    this.#log = log;
    this.#progress = progress;
    this.#heardAt = clock.monotonic();
  }

  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** Anything that comes from the controller is a sign of life. */
  heard(): void {
    this.#heardAt = this.#clock.monotonic();
  }

  answered(heartbeat: ControllerHeartbeat): void {
    this.#answers = heartbeat.number;
    const sentAt = this.#sentAt.get(heartbeat.answers);
    if (sentAt === undefined) return;
    this.#roundTripMs = this.#clock.monotonic() - sentAt;
    for (const number of this.#sentAt.keys()) if (number <= heartbeat.answers) this.#sentAt.delete(number);
  }

  /** Sends until the signal aborts; throws `unavailable` once nothing was heard for three periods. */
  async run(send: (message: AgentMessage) => void, signal: AbortSignal): Promise<void> {
    try {
      await this.#send(send, signal);
    } finally {
      this.#progress?.rest();
    }
  }

  async #send(send: (message: AgentMessage) => void, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const silentMs = this.#clock.monotonic() - this.#heardAt;
      if (silentMs > SILENT_PERIODS * this.#periodMs) {
        throw new LonglineError('unavailable', `nothing was heard from the controller for ${Math.round(silentMs)} ms`);
      }
      this.#progress?.expect(this.#sendEveryMs + LATE_MS, 'a heartbeat');
      send(await this.#next());
      await this.#clock.sleep(this.#sendEveryMs, signal).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    }
  }

  async #next(): Promise<AgentMessage> {
    const usage = await this.#report.usage().catch((error: unknown) => {
      this.#log.warn('usage of the host could not be sampled', { err: error });
      return undefined;
    });
    this.#number += 1n;
    this.#sentAt.set(this.#number, this.#clock.monotonic());
    if (this.#sentAt.size > MAX_UNANSWERED) this.#sentAt.delete(this.#sentAt.keys().next().value as bigint);
    const value = create(AgentHeartbeatSchema, {
      number: this.#number,
      time: wireTime(this.#clock.now()),
      answers: this.#answers,
      ...(usage !== undefined && { usage }),
      ...(this.#roundTripMs !== undefined && { roundTrip: wireDuration(this.#roundTripMs) }),
    });
    return create(AgentMessageSchema, { message: { case: 'heartbeat', value } });
  }
}
