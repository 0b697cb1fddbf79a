// The latest sign of life on one control stream, until it is taken for the store.
import { toBinary } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import type { AgentHeartbeat } from '#gen/longline/link/v1/link_pb.js';
import { AgentUsageSchema } from '#gen/longline/v1/agent_pb.js';
import type { AgentSighting } from '../store/agent.ts';
import { loadOf } from './wire.ts';

/** A sign of life, and whether the load changed since the one before. */
export interface TakenSighting {
  readonly sighting: AgentSighting;
  readonly loadChanged: boolean;
}

/** Heartbeats come more often than they are stored: the newest counts. */
export class LatestSighting {
  readonly #agentId: string;
  readonly #connectionId: string;
  #sighting: AgentSighting | undefined;
  #load = '';

  constructor(agentId: string, connectionId: string) {
    this.#agentId = agentId;
    this.#connectionId = connectionId;
  }

  /** Notes a heartbeat; usage that it doesn't name stays as it was. */
  note({ usage, roundTrip }: AgentHeartbeat, nowMs: number): void {
    this.#sighting = {
      agentId: this.#agentId,
      connectionId: this.#connectionId,
      seenAtMs: nowMs,
      roundTripMs: roundTrip === undefined ? undefined : durationMs(roundTrip),
      usage:
        usage === undefined ? this.#sighting?.usage : { bytes: toBinary(AgentUsageSchema, usage), load: loadOf(usage) },
    };
  }

  /** The latest, once. */
  take(): TakenSighting | undefined {
    const sighting = this.#sighting;
    if (sighting === undefined) return undefined;
    const load = JSON.stringify(sighting.usage?.load ?? {});
    const loadChanged = load !== this.#load;
    this.#sighting = undefined;
    this.#load = load;
    return { sighting, loadChanged };
  }
}
