// What the process tells the service manager that started it: that it is ready, reloads or stops, and, as often as the watchdog wants,
// that it is alive. Alive it is only while the event loop turns, which this runs on, and every task gets on; a task counts as stuck once
// it was late at two beats in a row, so that a process that was held up as a whole has a turn to catch up. Nothing here fails: a manager
// that can't be told is said in the log, and one that is not there is not told.
import type { Clock } from './clock.ts';
import { describeError } from './errors.ts';
import type { Logger } from './logger.ts';
import type { Progress } from './progress.ts';

/** How often the manager hears of the service where it has no watchdog. */
const BEAT_MS = 10_000;
/** By how much a start that goes on may last longer, each time. */
const EXTEND_MS = 60_000;
const USEC_PER_MS = 1000;

/** What can be told. */
export type ServiceState =
  | 'READY=1'
  | 'RELOADING=1'
  | 'STOPPING=1'
  | 'WATCHDOG=1'
  | `STATUS=${string}`
  | `EXTEND_TIMEOUT_USEC=${number}`;

/** Tells the manager whose NOTIFY_SOCKET is given, if there is one. Throws `unavailable` if it can't be told now. */
export type TellServiceManager = (notifySocket: string | undefined, ...states: readonly ServiceState[]) => void;

/** What it is made from. */
export interface ServiceVoiceOptions {
  /** NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tell: TellServiceManager;
  /** Hears of each beat of a watchdog whether it was told that the service lives. Must not throw. */
  readonly onBeat?: (result: 'told' | 'withheld') => void;
}

/** What a service that is ready is watched by. */
export interface ServiceWatch {
  /** Tasks that must get on. */
  readonly tasks: () => readonly Progress[];
  /** One line for people. */
  readonly status: () => string;
}

/** One per process. Dispose to fall silent. */
export class ServiceVoice implements AsyncDisposable {
  readonly #options: ServiceVoiceOptions;
  readonly #socket: string | undefined;
  readonly #watchdogMs: number | undefined;
  readonly #stop = new AbortController();
  readonly #beating: Promise<void>;
  /** Steps at which tasks were late at the last beat. */
  #late = new Map<Progress, number>();
  #watch: ServiceWatch | undefined;
  #phase: 'starting' | 'ready' | 'stopping' = 'starting';
  #status = '';
  #stuck = false;
  #heard = true;

  constructor(options: ServiceVoiceOptions) {
    this.#options = options;
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = options.environment;
    this.#socket = NOTIFY_SOCKET || undefined;
    const mine = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
    const limitMs = Number(WATCHDOG_USEC) / USEC_PER_MS;
    this.#watchdogMs = mine && limitMs >= 1 ? limitMs : undefined;
    this.#beating = this.#socket === undefined ? Promise.resolve() : this.#beat();
  }

  /** The service does what it is for; from now on the watchdog counts. Not heard of one that was told to end meanwhile. */
  ready(watch: ServiceWatch): void {
    if (this.#phase === 'stopping') return;
    this.#watch = watch;
    this.#phase = 'ready';
    this.#say('READY=1', 'WATCHDOG=1', this.#statusLine());
  }

  /** Runs a reload, and tells of it, but for one before the service is ready or once it ends: it would count as ready after that. */
  async reload<T>(reload: () => Promise<T>): Promise<T> {
    if (this.#phase === 'ready') this.#say('RELOADING=1');
    try {
      return await reload();
    } finally {
      // Also of one that was refused: the service is as it was.
      if (this.#phase === 'ready') this.#say('READY=1');
    }
  }

  /** The service ends. */
  stopping(): void {
    if (this.#phase === 'stopping') return;
    this.#phase = 'stopping';
    this.#say('STOPPING=1', 'STATUS=stopping');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#beating;
  }

  async #beat(): Promise<void> {
    const { signal } = this.#stop;
    const everyMs = Math.min(this.#watchdogMs === undefined ? BEAT_MS : this.#watchdogMs / 2, BEAT_MS);
    while (!signal.aborted) {
      await this.#options.clock.sleep(everyMs, signal).catch(() => undefined);
      if (!signal.aborted) this.#say(...this.#states());
    }
  }

  /** What is told at a beat. */
  #states(): readonly ServiceState[] {
    if (this.#phase === 'starting') return [`EXTEND_TIMEOUT_USEC=${EXTEND_MS * USEC_PER_MS}`];
    if (this.#phase === 'stopping') return ['WATCHDOG=1'];
    const { log } = this.#options;
    const stuck = this.#stuckTask();
    if (stuck !== undefined) {
      if (!this.#stuck) log.error('the watchdog hears nothing any more: a task is stuck', { task: stuck });
      this.#stuck = true;
      this.#beaten('withheld');
      return [`STATUS=stuck: ${stuck}`];
    }
    if (this.#stuck) log.warn('the task gets on again');
    this.#stuck = false;
    this.#beaten('told');
    const line = this.#statusLine();
    return line === this.#status ? ['WATCHDOG=1'] : ['WATCHDOG=1', line];
  }

  #beaten(result: 'told' | 'withheld'): void {
    if (this.#watchdogMs !== undefined) this.#options.onBeat?.(result);
  }

  /** A task that was late at the beat before with the same step, and still is. */
  #stuckTask(): string | undefined {
    const before = this.#late;
    this.#late = new Map();
    let stuck: string | undefined;
    for (const task of this.#watch?.tasks() ?? []) {
      const late = task.overdue();
      if (late === undefined) continue;
      this.#late.set(task, late.step);
      if (before.get(task) === late.step) stuck ??= late.what;
    }
    return stuck;
  }

  #statusLine(): ServiceState {
    return `STATUS=${this.#watch?.status() ?? ''}`;
  }

  #say(...states: readonly ServiceState[]): void {
    const status = states.find((state) => state.startsWith('STATUS='));
    if (status !== undefined) this.#status = status;
    try {
      this.#options.tell(this.#socket, ...states);
      this.#heard = true;
    } catch (error) {
      if (this.#heard)
        this.#options.log.warn('the service manager was not told', { states, err: describeError(error) });
      this.#heard = false;
    }
  }
}
