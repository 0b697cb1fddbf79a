// What an agent says of the desired states that it keeps, put into the store in the order it was said. Who waits for it is told
// over the bus. Kinds that this controller doesn't send are ignored. Fails if the store does.
import { createHash } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import {
  DesiredStateKind,
  type DesiredStateRef,
  type StateReport,
  StateReportSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import { desiredStatesTopic } from '../bus/topics.ts';
import { KEPT_ROLLBACKS, rollbacksIn } from '../programs/program-report.ts';
import { STATE_BODIES } from '../states/state-bodies.ts';
import type { StateReportRecord } from '../store/state-report.ts';
import type { LinkDependencies } from './link-options.ts';

/** First bytes of the SHA-256 of a report, as DesiredStateRef.report_digest. */
const REPORT_DIGEST_BYTES = 8;

/** True if the latest report that is stored is the one that a ref of Hello names. */
export function isReported({ generation, reportDigest }: DesiredStateRef, stored: StateReportRecord): boolean {
  const digest = createHash('sha256').update(stored.report).digest().subarray(0, REPORT_DIGEST_BYTES);
  return stored.generation === generation && Buffer.compare(digest, reportDigest) === 0;
}

/** Receiving side of one agent's desired states on one stream. */
export class StateInbox {
  readonly #needs: LinkDependencies;
  readonly #agentId: string;
  #storing: Promise<void> = Promise.resolve();

  constructor(needs: LinkDependencies, agentId: string) {
    this.#needs = needs;
    this.#agentId = agentId;
  }

  /** Stores a report of any kind but SESSIONS. Reports settle in the order they came. */
  take(report: StateReport): Promise<void> {
    const next = () => this.#store(report);
    // Whoever took the one before hears that it failed.
    this.#storing = this.#storing.then(next, next);
    return this.#storing;
  }

  async #store(report: StateReport): Promise<void> {
    const { kind, generation, detail, error } = report;
    const { store, clock, bus } = this.#needs;
    const agentId = this.#agentId;
    if (!STATE_BODIES.has(kind) || kind === DesiredStateKind.SESSIONS) return;
    if (error !== undefined) {
      // It asks for the full state, which it gets: nobody else has to know.
      if (error.reason === ErrorReason.STALE) return;
      const refusal = { generation, error: toBinary(ErrorSchema, error), atMs: clock.now() };
      await store.desiredStates.refused(agentId, kind, refusal);
    } else if (generation > 0n || detail.case !== undefined) {
      // In this order, so that after a crash between the two the report isn't known here, and comes again.
      await store.desiredStates.applied(agentId, kind, generation);
      await store.rollbacks.add(rollbacksIn(report, agentId, clock.now()), KEPT_ROLLBACKS);
      const bytes = toBinary(StateReportSchema, report);
      await store.stateReports.put({ agentId, kind, generation, report: bytes, storedAtMs: clock.now() });
    }
    bus.publish(desiredStatesTopic, { agentId, stateKind: kind });
  }
}
