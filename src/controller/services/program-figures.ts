// The latest figures of programs.
import type { ProgramTelemetry } from '#gen/longline/v1/program_pb.js';
import { LatestFigures } from './latest-figures.ts';

/** Programs that figures are kept of. */
const MAX_PROGRAMS = 20_000;

/** Most programs of one message of one agent that are looked at. */
const MAX_OF_AGENT = 256;

/** Figures of programs by agent. */
export class ProgramFiguresCache {
  readonly #latest = new LatestFigures<ProgramTelemetry>(MAX_PROGRAMS);

  /** Takes figures of one agent; true if there were any. Quick; never throws. */
  put(agentId: string, programs: readonly ProgramTelemetry[], nowMs: number): boolean {
    for (const program of programs.slice(0, MAX_OF_AGENT)) this.#latest.keep(agentId, program.name, program, nowMs);
    return programs.length > 0;
  }

  /** The latest figures, unless they are too old to say anything. */
  latest(agentId: string, name: string, nowMs: number): ProgramTelemetry | undefined {
    return this.#latest.find(agentId, name, nowMs)?.figures;
  }
}
