// What the controller is to be told about sessions: by session the latest, so that a slow or absent link loses no change
// and holds no more than one status each. A report that couldn't be sent is put back below what is newer. Pure.
import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import {
  type AgentMessage,
  AgentMessageSchema,
  DesiredStateKind,
  type DesiredStateRef,
  DesiredStateRefSchema,
  type StateReport,
  StateReportSchema,
} from '#gen/longline/link/v1/link_pb.js';
import type { SessionStatus } from '#gen/longline/v1/session_pb.js';

/** Changes that may wait one by one; beyond, a full report takes their place. */
const MAX_WAITING = 2000;

/** Statuses in one report; more go into the next one, unless it has to be full. */
const MAX_CHANGES = 500;

const byId = (left: SessionStatus, right: SessionStatus): number => (left.sessionId < right.sessionId ? -1 : 1);

/** True if the first status is newer than the second. */
function newer(one: SessionStatus, other: SessionStatus): boolean {
  return one.generation === other.generation ? one.revision > other.revision : one.generation > other.generation;
}

/** Names a set of statuses: the same sessions at the same revisions give the same 16 bytes. */
export function sessionsDigest(statuses: Iterable<SessionStatus>): Uint8Array {
  const hash = createHash('sha256');
  for (const { sessionId, generation, revision } of [...statuses].sort(byId)) {
    hash.update(`${sessionId} ${generation} ${revision}\n`);
  }
  return Uint8Array.from(hash.digest().subarray(0, 16));
}

/** What Hello says of the sessions. */
export function sessionsRef(statuses: Iterable<SessionStatus>): DesiredStateRef {
  return create(DesiredStateRefSchema, { kind: DesiredStateKind.SESSIONS, digest: sessionsDigest(statuses) });
}

/** True if the controller holds just these statuses, or there is nothing that could be told yet. */
export function holdsSessions(
  known: readonly DesiredStateRef[],
  statuses: readonly SessionStatus[] | undefined,
): boolean {
  if (statuses === undefined) return true;
  const held = known.find(({ kind }) => kind === DesiredStateKind.SESSIONS);
  return held !== undefined && Buffer.compare(held.digest, sessionsDigest(statuses)) === 0;
}

/** Statuses that wait to be reported. */
export class SessionReports {
  readonly #changed = new Map<string, SessionStatus>();
  /** Gives all sessions; set while a full report is due. */
  #all: (() => readonly SessionStatus[]) | undefined;
  /** The latest view of all, for the digest of reports. */
  #view: () => readonly SessionStatus[] = () => [];

  /** True if there is nothing to report. */
  get empty(): boolean {
    return this.#all === undefined && this.#changed.size === 0;
  }

  /** Asks for a full report, made when it is sent. */
  putAll(all: () => readonly SessionStatus[]): void {
    this.#all = all;
    this.#view = all;
    this.#changed.clear();
  }

  /** Takes changed statuses. `all` gives every session at any time. */
  put(statuses: Iterable<SessionStatus>, all: () => readonly SessionStatus[]): void {
    this.#view = all;
    if (this.#all !== undefined) return;
    for (const status of statuses) {
      const known = this.#changed.get(status.sessionId);
      if (known === undefined || newer(status, known)) this.#changed.set(status.sessionId, status);
    }
    if (this.#changed.size > MAX_WAITING) this.putAll(all);
  }

  /** The next report, taken out; undefined if there is none. */
  take(): AgentMessage | undefined {
    if (this.empty) return undefined;
    const full = this.#all !== undefined;
    const sessions = full ? [...this.#view()] : [...this.#changed.values()].slice(0, MAX_CHANGES);
    this.#all = undefined;
    for (const { sessionId } of sessions) this.#changed.delete(sessionId);
    const value = create(StateReportSchema, {
      kind: DesiredStateKind.SESSIONS,
      // While changes wait the controller doesn't hold what the digest of all would name.
      digest: this.#changed.size === 0 ? sessionsDigest(this.#view()) : new Uint8Array(),
      detail: { case: 'sessions', value: { sessions: sessions.sort(byId), full } },
    });
    return create(AgentMessageSchema, { message: { case: 'stateReport', value } });
  }

  /** Puts back a report that was taken and could not be sent. */
  giveBack({ detail }: StateReport): void {
    if (detail.case !== 'sessions') return;
    if (detail.value.full) this.putAll(this.#view);
    else this.put(detail.value.sessions, this.#view);
  }
}
