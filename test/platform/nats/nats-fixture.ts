// What tests of NATS share: an announcer with short limits, a client that has nothing to do with it, and figures to tell of.
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import type { AnnouncedChange, AnnouncedFigures, AnnouncedRollback } from '../../../src/capabilities/programs/ports.ts';
import { systemClock } from '../../../src/core/clock.ts';
import type { LogFields, Logger } from '../../../src/core/logger.ts';
import { NatsAnnouncer, type NatsOptions } from '../../../src/platform/nats/announcer.ts';

export const ARTIFACT = `sha256:${'ab'.repeat(32)}`;
export const PROGRAM = { program: 'drop', artifact: ARTIFACT, version: '1.2.0', revision: 3, state: 'active' } as const;

/** Figures whose packets tell which they are. */
export function told(packets = 1000): AnnouncedFigures {
  return {
    ...PROGRAM,
    figures: {
      startMs: Date.UTC(2026, 0, 15, 10, 29, 30),
      endMs: Date.UTC(2026, 0, 15, 10, 30),
      elapsedMs: 30_000,
      countedMs: 30_000,
      runs: 500n,
      cpuPercent: 0.5,
      latencyMs: 0.1,
      memoryKb: 1024,
      packets: BigInt(packets),
      violations: 2n,
      errors: 1n,
      packetsDelta: 10n,
      violationsDelta: 0n,
      errorsDelta: undefined,
      others: { drops: 7n },
      events: 4,
      droppedEvents: 1,
    },
  };
}

export const ROLLBACK: AnnouncedRollback = {
  id: '0198c0de-0000-7000-8000-000000000001',
  trigger: 'errors',
  threshold: 10,
  value: 25,
  reason: '25 errors in 30 s; at most 10 in 30 s are allowed',
  requestedBy: '',
  timeMs: Date.UTC(2026, 0, 15, 10, 31),
  toArtifact: `sha256:${'cd'.repeat(32)}`,
  figures: told().figures,
  error: undefined,
};

export const ROLLED_BACK = { ...PROGRAM, what: 'rolled_back', rollback: ROLLBACK } as const satisfies AnnouncedChange;

/** What is published, as whoever reads it sees it. */
export interface Published {
  readonly type: string;
  readonly timestamp: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, unknown>>;
}

const opened: (() => Promise<void>)[] = [];

/** Closes clients and announcers, also those of a test that failed. */
export async function closeAll(): Promise<void> {
  for (const close of opened.splice(0)) await close();
}

/** A client that has nothing to do with the announcer. */
export async function clientOf(address: string): Promise<NatsConnection> {
  const client = await connect({ servers: address, reconnect: false });
  opened.push(() => client.close());
  return client;
}

/** What is heard of all agents. */
export async function listen(address: string): Promise<{ readonly heard: readonly Published[] }> {
  const client = await clientOf(address);
  const heard: Published[] = [];
  client.subscribe('agent.>', { callback: (_error, message) => void heard.push(message.json<Published>()) });
  await client.flush();
  return { heard };
}

/** A log that is kept. */
export class KeptLog implements Logger {
  readonly lines: { readonly level: string; readonly message: string; readonly fields: LogFields }[] = [];
  debug = (message: string, fields: LogFields = {}) => void this.lines.push({ level: 'debug', message, fields });
  info = (message: string, fields: LogFields = {}) => void this.lines.push({ level: 'info', message, fields });
  warn = (message: string, fields: LogFields = {}) => void this.lines.push({ level: 'warn', message, fields });
  error = (message: string, fields: LogFields = {}) => void this.lines.push({ level: 'error', message, fields });
  child = () => this;

  find(text: RegExp): LogFields | undefined {
    return this.lines.find(({ message, fields }) => text.test(`${message} ${String(fields['err'] ?? '')}`))?.fields;
  }
}

/** An announcer that is started. It is soon there again, and its limits are long unless a test is about them: machines stand still for seconds. */
export function announcer(url: string, more: Partial<NatsOptions> = {}): { announcer: NatsAnnouncer; log: KeptLog } {
  const log = new KeptLog();
  const made = new NatsAnnouncer({
    urls: [url],
    credentials: {},
    telemetrySubject: 'agent.telemetry',
    hostId: 'host-001',
    agentVersion: '1.0.0',
    clock: systemClock,
    log,
    ...more,
    limits: { backoff: { baseMs: 50, capMs: 200 }, closeMs: 20_000, ...more.limits },
  });
  made.start();
  opened.push(() => made[Symbol.asyncDispose]());
  return { announcer: made, log };
}

/** Waits for a condition, at most 60 s. */
export async function until<T>(what: string, found: () => T | undefined | false): Promise<T> {
  for (const endMs = performance.now() + 60_000; performance.now() < endMs; ) {
    const value = found();
    if (value !== undefined && value !== false) return value;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`${what}: not within 60 s`);
}

/** A server that is no NATS. */
export class OddServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(onSocket: (socket: Socket) => void) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      // A reset is an end like others here.
      socket.on('error', () => undefined).on('close', () => this.#sockets.delete(socket));
      socket.resume();
      onSocket(socket);
    });
  }

  static async start(onSocket: (socket: Socket) => void): Promise<OddServer> {
    const odd = new OddServer(onSocket);
    odd.#server.listen(0, '127.0.0.1');
    await once(odd.#server, 'listening');
    return odd;
  }

  /** Connections that are open. */
  get open(): number {
    return this.#sockets.size;
  }

  get url(): string {
    const address = this.#server.address();
    return `nats://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
