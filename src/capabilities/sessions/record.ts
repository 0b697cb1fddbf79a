// The durable facts of sessions: what each is to be, what is wanted for it and what it was last seen doing. Written before
// every effect, so that a process killed at any moment is followed by one that knows what was under way.
import type { StateStore } from '../../core/capability.ts';
import type { SessionSpec } from './session-spec.ts';
import type { Cause, Goal, PlainError, SessionState } from './state.ts';

/** One session, in one life. Survives JSON unchanged. */
export interface SessionRecord {
  readonly sessionId: string;
  readonly generation: number;
  /** Hexadecimal, as it came. */
  readonly specHash: string;
  readonly spec: SessionSpec;
  readonly goal: Goal;
  readonly state: SessionState;
  readonly cause: Cause;
  readonly reason: string;
  readonly error?: PlainError | undefined;
  /** Grows with every change. */
  readonly revision: number;
  /** Number of the latest report over all sessions, when this was written. */
  readonly report: number;
  readonly containerId: string;
  /** What runs, by digest where the engine knows it. */
  readonly image: string;
  readonly imageId: string;
  readonly starts: number;
  readonly restarts: number;
  readonly oomKilled: boolean;
  readonly exitCode?: number | undefined;
  readonly createdAtMs: number;
  /** Of the container's latest start. */
  readonly startedAtMs?: number | undefined;
  /** When its first start had succeeded: its lifetime counts from here. */
  readonly firstStartedAtMs?: number | undefined;
  readonly activeAtMs?: number | undefined;
  readonly changedAtMs: number;
  readonly endedAtMs?: number | undefined;
  /** Boot of the host in which it was last started. */
  readonly bootId: string;
  /** Where its memory is, while it sleeps so. */
  readonly checkpoint?: string | undefined;
}

const PREFIX = 'session/';

/** Records over the capability's state store. */
export class SessionRecords {
  readonly #state: StateStore;
  readonly #unreadable = new Set<string>();

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Durable when it resolves. Writes of one session keep their order. */
  async put(record: SessionRecord): Promise<void> {
    await this.#state.put(PREFIX + record.sessionId, Buffer.from(JSON.stringify(record)));
  }

  async delete(sessionId: string): Promise<void> {
    await this.#state.delete(PREFIX + sessionId);
    this.#unreadable.delete(sessionId);
  }

  /**
   * Ids of sessions whose record could not be read: damaged, or written by a later version. What they are to do is not known,
   * so what they have is left alone until somebody stops them.
   */
  get unreadable(): ReadonlySet<string> {
    return this.#unreadable;
  }

  /** All records that can be read; the ids of the others are in `unreadable` from then on. */
  async all(): Promise<readonly SessionRecord[]> {
    const records: SessionRecord[] = [];
    for (const key of await this.#state.list(PREFIX)) {
      const bytes = await this.#state.get(key);
      const record = bytes === undefined ? undefined : decode(bytes);
      if (record === undefined) this.#unreadable.add(key.slice(PREFIX.length));
      else records.push(record);
    }
    return records;
  }
}

/** The record of a session that nothing was done for yet. */
export function firstRecord(
  asked: Pick<SessionRecord, 'sessionId' | 'generation' | 'specHash' | 'spec'>,
  bootId: string,
  nowMs: number,
): SessionRecord {
  return {
    ...asked,
    bootId,
    goal: { kind: 'running' },
    state: { kind: 'starting' },
    cause: 'requested',
    reason: '',
    revision: 0,
    report: 0,
    containerId: '',
    image: '',
    imageId: '',
    starts: 0,
    restarts: 0,
    oomKilled: false,
    createdAtMs: nowMs,
    changedAtMs: nowMs,
  };
}

function decode(bytes: Uint8Array): SessionRecord | undefined {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(bytes).toString());
    const { sessionId, spec, goal, state } = (parsed ?? {}) as Partial<SessionRecord>;
    if (typeof sessionId === 'string' && spec !== undefined && goal !== undefined && state !== undefined) {
      return parsed as SessionRecord;
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return undefined;
}
