// What tests of the sessions capability share: a host, logs, reports and commands in memory, over any engine.
import assert from 'node:assert/strict';
import { SessionsCapability } from '../../../src/capabilities/sessions/capability.ts';
import { DEFAULT_SESSIONS_CONFIG, type SessionsConfig } from '../../../src/capabilities/sessions/config.ts';
import type { SessionEngine } from '../../../src/capabilities/sessions/ports.ts';
import {
  decodeResult,
  decodeStatus,
  decodeStep,
  encodeSessionAction,
  type SessionActionInit,
  type SessionSpecInit,
  sessionSpecMessage,
} from '../../../src/capabilities/sessions/wire.ts';
import type { CapabilityHost, HostEvent } from '../../../src/core/capability.ts';
import { type Clock, systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { newId } from '../../../src/core/ids.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { until } from '../../link/scratch.ts';
import { MemoryLog, MemoryState } from '../jobs/jobs-fixture.ts';

/** The message of an action, as encodeSessionAction takes it. */
export type ActionInput = SessionActionInit['action'] & {};

/** The message of a spec. */
export type SpecInput = SessionSpecInit;

type Status = ReturnType<typeof decodeStatus>;
type Step = ReturnType<typeof decodeStep>;

/** Names of states, causes and steps as they are in the contract. */
export { SessionCause, SessionState, SessionStep, SessionStepState } from '#gen/longline/v1/session_pb.js';

/** How a command ended. */
export interface Ended {
  readonly outcome: string;
  readonly error: LonglineError | undefined;
  readonly unchanged: boolean;
  readonly status: Status | undefined;
  readonly steps: readonly Step[];
}

/** One capability over an engine; make a second one on the same parts to play a restarted agent. */
export class SessionsWorld implements AsyncDisposable {
  readonly engine: SessionEngine;
  readonly state = new MemoryState();
  readonly logs = new Map<string, MemoryLog>();
  readonly events: HostEvent[] = [];
  /** Every status reported, in order. */
  readonly reported: Status[] = [];
  readonly figures: Uint8Array[] = [];
  readonly instanceId = newId();
  bootId = newId();
  readonly clock: Clock;
  readonly config: SessionsConfig;
  readonly #opened: SessionsCapability[] = [];

  constructor(engine: SessionEngine, config: Partial<SessionsConfig> = {}, clock: Clock = systemClock) {
    this.engine = engine;
    this.config = { ...DEFAULT_SESSIONS_CONFIG, ...config };
    this.clock = clock;
  }

  /** An open capability that has adopted what is there. */
  async start(): Promise<SessionsCapability> {
    const sessions = new SessionsCapability({
      engine: this.engine,
      logs: { open: async (logId, attempt) => this.log(logId, attempt) },
      credentials: { forImage: async () => undefined },
      reports: {
        changed: (_id, status) => this.reported.push(decodeStatus(status)),
        measured: (told) => this.figures.push(...told.map(({ figures }) => figures)),
      },
      instanceId: this.instanceId,
      bootId: this.bootId,
      config: this.config,
    });
    this.#opened.push(sessions);
    const availability = await sessions.open(this.#host());
    if (availability.available) await sessions.adopt();
    return sessions;
  }

  /** Ends all capabilities of this world; their containers go on. */
  async letGo(): Promise<void> {
    for (const sessions of this.#opened.splice(0)) await sessions[Symbol.asyncDispose]();
  }

  log(logId: string, attempt: number): MemoryLog {
    const key = `${logId}~${attempt}`;
    const log = this.logs.get(key) ?? new MemoryLog();
    this.logs.set(key, log);
    return log;
  }

  /** Resolves once a log has this text. */
  async untilLogged(logId: string, attempt: number, text: string): Promise<void> {
    const log = this.log(logId, attempt);
    await until(`the log has ${text}`, () => log.text() === text).catch(() => assert.equal(log.text(), text));
  }

  /** The latest status of a session. */
  latest(sessionId: string): Status | undefined {
    return this.reported.findLast((status) => status.sessionId === sessionId);
  }

  /** Resolves once the latest status of a session is as wanted. */
  async until(sessionId: string, wanted: (status: Status) => boolean, what: string): Promise<Status> {
    return await this.#awaited(sessionId, what, () => {
      const status = this.latest(sessionId);
      return status !== undefined && wanted(status) ? status : undefined;
    });
  }

  /** Resolves once a session was as wanted, even if it isn't any more: for states that pass by themselves. */
  async passed(sessionId: string, wanted: (status: Status) => boolean, what: string): Promise<Status> {
    return await this.#awaited(sessionId, what, () =>
      this.reported.find((status) => status.sessionId === sessionId && wanted(status)),
    );
  }

  async #awaited(sessionId: string, what: string, look: () => Status | undefined): Promise<Status> {
    let found: Status | undefined;
    const holds = () => {
      found = look();
      return found !== undefined;
    };
    await until(what, holds).catch((error: Error) => {
      const status = JSON.stringify(this.latest(sessionId), (_, value) =>
        typeof value === 'bigint' ? Number(value) : value,
      );
      throw new Error(`${error.message}; it is ${status}`);
    });
    return found!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.letGo();
    await this.engine[Symbol.asyncDispose]();
  }

  #host(): CapabilityHost {
    const { signal } = new AbortController();
    const emit = (event: HostEvent) => this.events.push(event);
    return { log: silentLogger, clock: this.clock, state: this.state, signal, emit };
  }
}

/** A command under way. */
export class Sent {
  readonly steps: Step[] = [];
  readonly done: Promise<Ended | undefined>;
  readonly #cancel = new AbortController();

  constructor(sessions: SessionsCapability, action: ActionInput, resumed = false) {
    const command = {
      id: newId(),
      action: encodeSessionAction({ action }),
      receivedAtMs: Date.now(),
      expiresAtMs: Date.now() + 3_600_000,
      traceparent: '',
    };
    this.done = this.#read(sessions.handle(command, { signal: this.#cancel.signal, resumed }));
  }

  cancel(): void {
    this.#cancel.abort(new LonglineError('cancelled', 'a test asked for it'));
  }

  /** The result; fails if there is none. */
  async result(): Promise<Ended> {
    const ended = await this.done;
    assert.ok(ended !== undefined, 'the command ended without a result');
    return ended;
  }

  async #read(events: ReturnType<SessionsCapability['handle']>): Promise<Ended | undefined> {
    let ended: Ended | undefined;
    for await (const event of events) {
      if (event.kind === 'progress') {
        this.steps.push(decodeStep(event.detail));
        continue;
      }
      assert.equal(ended, undefined, 'a second result came');
      const { status, unchanged, steps } = decodeResult(event.detail);
      ended = { outcome: event.outcome, error: event.error, unchanged, status, steps };
    }
    return ended;
  }
}

/** Starts a session; the spec's image is "desktop:1" unless given. */
export function startOf(sessionId: string, spec: SpecInput = {}, generation = 1, hash = 1): ActionInput {
  const specHash = new Uint8Array(16).fill(hash);
  const whole = sessionSpecMessage({ image: 'desktop:1', ...spec });
  return { case: 'start', value: { sessionId, spec: whole, specHash, generation: BigInt(generation) } };
}

/** Brings a session up and gives its status; fails if it doesn't come up. */
export async function up(sessions: SessionsCapability, sessionId: string, spec: SpecInput = {}): Promise<Status> {
  const ended = await new Sent(sessions, startOf(sessionId, spec)).result();
  assert.equal(ended.outcome, 'succeeded', ended.error?.message ?? '');
  return ended.status!;
}
