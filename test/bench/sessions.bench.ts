// Waking a session from both tiers, from command to result with everything durable, beside the bare calls of the engine that
// every way of waking needs; and a new agent taking over 200 running sessions.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StateFile } from '../../src/agent/state-file.ts';
import { SessionsCapability } from '../../src/capabilities/sessions/capability.ts';
import { DEFAULT_SESSIONS_CONFIG } from '../../src/capabilities/sessions/config.ts';
import {
  encodeSessionAction,
  type SessionActionInit,
  sessionSpecMessage,
} from '../../src/capabilities/sessions/wire.ts';
import { systemClock } from '../../src/core/clock.ts';
import { newId } from '../../src/core/ids.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { LogSpool } from '../../src/link/log-spool.ts';
import { parseEngineAddress } from '../../src/platform/docker/engine-address.ts';
import { DockerSessionEngine } from '../../src/platform/docker/session-engine.ts';
import { startDocker } from '../fixtures/engines.ts';
import { loadTestImages, TEST_IMAGE } from '../fixtures/test-image.ts';
import { type Bench, median, percentile } from './bench.ts';
import { engineMissing } from './bench-fleet.ts';

const MIB = 1024 ** 2;
const STARTS_AT_ONCE = 8;
const ADOPTION_LIMIT_MS = 60_000;

/** One host's sessions on disk and engine, taken over by one capability after the other. */
class Host {
  readonly engine: DockerSessionEngine;
  readonly #state: StateFile;
  readonly #spool: LogSpool;
  readonly #instanceId = newId();

  private constructor(engine: DockerSessionEngine, state: StateFile, spool: LogSpool) {
    this.engine = engine;
    this.#state = state;
    this.#spool = spool;
  }

  static async open(folder: string, host: string): Promise<Host> {
    const limits = { maxBytes: 512 * MIB, maxLogBytes: 16 * MIB, segmentBytes: MIB };
    return new Host(
      new DockerSessionEngine(parseEngineAddress(host)),
      await StateFile.open(join(folder, 'state'), { log: silentLogger }),
      await LogSpool.open({ folder: join(folder, 'spool'), log: silentLogger, limits }),
    );
  }

  async capability(): Promise<SessionsCapability> {
    const sessions = new SessionsCapability({
      engine: this.engine,
      logs: { open: (logId, attempt) => this.#spool.open(logId, 'session', attempt) },
      credentials: { forImage: async () => undefined },
      reports: { changed: () => undefined, measured: () => undefined },
      instanceId: this.#instanceId,
      bootId: 'bench',
      config: { ...DEFAULT_SESSIONS_CONFIG, limits: { maxCpus: 1000, maxMemoryBytes: 1024 ** 4, maxSessions: 1000 } },
    });
    const { signal } = new AbortController();
    const state = this.#state.namespace('sessions');
    const host = { log: silentLogger, clock: systemClock, state, signal, emit: () => undefined };
    const availability = await sessions.open(host);
    if (!availability.available) throw new Error(availability.reason);
    return sessions;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
    await this.#spool[Symbol.asyncDispose]();
    await this.#state[Symbol.asyncDispose]();
  }
}

async function perform(sessions: SessionsCapability, action: SessionActionInit['action'] & {}): Promise<number> {
  const nowMs = Date.now();
  const bytes = encodeSessionAction({ action });
  const command = { id: newId(), action: bytes, receivedAtMs: nowMs, expiresAtMs: nowMs + 60_000, traceparent: '' };
  const { signal } = new AbortController();
  const startedMs = performance.now();
  for await (const event of sessions.handle(command, { signal, resumed: false })) {
    if (event.kind !== 'result') continue;
    if (event.outcome !== 'succeeded') throw new Error(`${action.case}: ${event.error?.message ?? event.outcome}`);
    return performance.now() - startedMs;
  }
  throw new Error(`${action.case} ended without a result`);
}

function start(sessionId: string) {
  const command = ['sh', '-c', 'trap exit TERM; while :; do sleep 3600 & wait; done'];
  const spec = sessionSpecMessage({
    ...{ image: TEST_IMAGE, command, network: { mode: 4 } },
    resources: { cpus: 0.1, memoryBytes: BigInt(16 * MIB), pids: 16 },
  });
  return { case: 'start', value: { sessionId, spec, generation: 1n, specHash: new Uint8Array(16) } } as const;
}

interface Wakes {
  readonly ours: number[];
  readonly bare: number[];
}

async function wakes(host: Host, sessions: SessionsCapability, tier: 1 | 2, count: number): Promise<Wakes> {
  await perform(sessions, start(`wake-${tier}`));
  await perform(sessions, start(`bare-${tier}`));
  const bare = `longline-session-bare-${tier}`;
  const result: Wakes = { ours: [], bare: [] };
  for (let round = 0; round <= count; round++) {
    const sessionId = `wake-${tier}`;
    await perform(sessions, { case: 'hibernate', value: { sessionId, tier } });
    const oursMs = await perform(sessions, { case: 'wake', value: { sessionId } });
    if (tier === 1) await host.engine.pauseContainer(bare);
    else await host.engine.stopContainer(bare, 5000);
    const startedMs = performance.now();
    if (tier === 1) await host.engine.unpauseContainer(bare);
    else await host.engine.startContainer(bare);
    const bareMs = performance.now() - startedMs;
    if (round === 0) continue;
    result.ours.push(oursMs);
    result.bare.push(bareMs);
  }
  return result;
}

async function adoption(host: Host, count: number): Promise<{ readonly knownMs: number; readonly followedMs: number }> {
  const first = await host.capability();
  await first.adopt();
  const left = Array.from({ length: count }, (_, index) => `adopted-${index}`);
  const starting = Array.from({ length: STARTS_AT_ONCE }, async () => {
    for (let id = left.shift(); id !== undefined; id = left.shift()) await perform(first, start(id));
  });
  await Promise.all(starting);
  await first[Symbol.asyncDispose]();
  const second = await host.capability();
  const startedMs = performance.now();
  await second.adopt();
  const knownMs = performance.now() - startedMs;
  while (second.counts().running < count || second.followed() < count) {
    if (performance.now() - startedMs > ADOPTION_LIMIT_MS) throw new Error(`${second.followed()} of ${count} adopted`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const followedMs = performance.now() - startedMs;
  await second[Symbol.asyncDispose]();
  return { knownMs, followedMs };
}

/** The bench. */
export const bench: Bench = {
  name: 'sessions',
  description: 'wake from pause and from stop beside the bare calls of the engine; 200 sessions adopted',
  missing: engineMissing,
  run: async ({ quick, say }) => {
    const folder = await mkdtemp(join(tmpdir(), 'll-bench-sessions-'));
    await using daemon = await startDocker();
    await loadTestImages(daemon);
    await using host = await Host.open(folder, daemon.host);
    try {
      const sessions = await host.capability();
      await sessions.adopt();
      const [pauses, stops, adopted] = quick ? [5, 3, 5] : [200, 60, 200];
      say(`${pauses} wakes from pause, ${stops} from stop`);
      const pause = await wakes(host, sessions, 1, pauses);
      const stop = await wakes(host, sessions, 2, stops);
      await sessions[Symbol.asyncDispose]();
      say(`${adopted} sessions for adoption`);
      const { knownMs, followedMs } = await adoption(host, adopted);
      return [
        {
          ...{ metric: 'wake from pause, p50', unit: 'ms', ours: median(pause.ours) },
          peer: { name: 'bare unpause', value: median(pause.bare) },
        },
        {
          ...{ metric: 'wake from pause, p99', unit: 'ms', ours: percentile(pause.ours, 0.99) },
          peer: { name: 'bare unpause', value: percentile(pause.bare, 0.99) },
          goal: { kind: 'at most', value: 25 },
        },
        {
          ...{ metric: 'wake from stop, p50', unit: 'ms', ours: median(stop.ours) },
          peer: { name: 'bare start', value: median(stop.bare) },
        },
        {
          ...{ metric: 'wake from stop, p99', unit: 'ms', ours: percentile(stop.ours, 0.99) },
          peer: { name: 'bare start', value: percentile(stop.bare, 0.99) },
          goal: { kind: 'at most', value: 250 },
        },
        {
          metric: `${adopted} sessions known again`,
          unit: 'ms',
          ours: knownMs,
          goal: { kind: 'at most', value: 2000 },
        },
        {
          metric: `${adopted} sessions followed again`,
          unit: 'ms',
          ours: followedMs,
          goal: { kind: 'at most', value: 2000 },
        },
      ];
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};
