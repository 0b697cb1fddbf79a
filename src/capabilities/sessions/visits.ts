// The way into sessions for tunnels and terminals: wakes what sleeps, waits for what is on its way, and counts what goes
// through as activity.
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import type {
  SessionAccess,
  SessionCommand,
  SessionEndpoint,
  SessionFacts,
  SessionTerminal,
  SessionVisit,
  VisitOptions,
} from '../../core/session-access.ts';
import * as lifecycle from './lifecycle.ts';
import type { Session } from './session.ts';
import { isOver } from './state.ts';

const MOST_ROUNDS = 20;
const TOUCH_EVERY_MS = 1000;

/** Visits to the sessions that `find` knows. */
export class Visits implements SessionAccess {
  readonly #find: (sessionId: string) => Session | undefined;

  constructor(find: (sessionId: string) => Session | undefined) {
    this.#find = find;
  }

  facts(sessionId: string): SessionFacts | undefined {
    const spec = this.#find(sessionId)?.spec;
    return spec === undefined ? undefined : { image: spec.image, user: spec.user };
  }

  async visit(sessionId: string, { port, wake }: VisitOptions, signal: AbortSignal): Promise<SessionVisit> {
    const session = this.#find(sessionId);
    if (session === undefined) throw new LonglineError('not_found', `session ${sessionId} is not on this agent`);
    const offered = session.spec.ports.map(({ number }) => number);
    if (port !== undefined && !offered.includes(port)) {
      const some = offered.length === 0 ? 'none' : offered.join(', ');
      throw new LonglineError('policy', `session ${sessionId} does not offer port ${port}; it offers: ${some}`);
    }
    const woken = await ready(session, wake, signal);
    return new Visit(session, woken);
  }
}

/** Waits until it runs; true if it was woken. */
async function ready(session: Session, wake: boolean, signal: AbortSignal): Promise<boolean> {
  let woken = false;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    signal.throwIfAborted();
    const { kind } = session.state;
    if (kind === 'running' || kind === 'unhealthy') {
      if (session.live !== undefined) return woken;
    } else if (isOver(session.state) || kind === 'stopping') {
      throw session.wrongState('a tunnel', 'running');
    } else if (!wake && !session.busy && kind === 'asleep') {
      throw session.wrongState('a tunnel that may not wake it', 'running');
    }
    const step = session.enqueue(async (ended) => {
      if (session.state.kind !== 'asleep') return;
      if (!wake) throw session.wrongState('a tunnel that may not wake it', 'running');
      woken = true;
      const reason = 'a tunnel was opened';
      await lifecycle.wake(session, { cause: 'tunnel', reason, tell: () => undefined, signal: ended });
    });
    await orAbort(step, signal);
    if (session.state.kind === 'restarting') await session.services.clock.sleep(TOUCH_EVERY_MS, signal);
  }
  throw session.wrongState('a tunnel', 'running');
}

/** The outcome, or the abort. What was begun goes on: others may wait for it too. */
async function orAbort(step: Promise<void>, signal: AbortSignal): Promise<void> {
  const left = Promise.withResolvers<never>();
  const onAbort = () => left.reject(toLonglineError(signal.reason));
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  step.catch(() => undefined);
  try {
    await Promise.race([step, left.promise]);
  } catch (error) {
    throw toLonglineError(error instanceof Error && error.cause instanceof LonglineError ? error.cause : error);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

class Visit implements SessionVisit {
  readonly woken: boolean;
  readonly #session: Session;
  #left = false;
  #waking = false;

  constructor(session: Session, woken: boolean) {
    this.woken = woken;
    this.#session = session;
    session.traffic.open += 1;
    session.active(session.services.clock.now());
    session.note();
  }

  get endpoint(): SessionEndpoint {
    const { live, spec, containerId } = this.#session;
    return {
      containerId: live?.id ?? containerId,
      addresses: live?.addresses ?? [],
      pid: live?.pid,
      ports: spec.ports.map(({ number }) => number),
    };
  }

  touch(inBytes: number, outBytes: number): void {
    const { traffic, services, state } = this.#session;
    traffic.inBytes += inBytes;
    traffic.outBytes += outBytes;
    this.#session.active(services.clock.now());
    if (state.kind === 'asleep' && state.tier === 'pause' && !this.#waking) this.#wake();
  }

  async execute(command: SessionCommand, signal: AbortSignal): Promise<SessionTerminal> {
    return await this.#session.services.engine.execute(this.endpoint.containerId, command, signal);
  }

  async attachMain(withInput: boolean, signal: AbortSignal): Promise<SessionTerminal> {
    const { spec, services } = this.#session;
    const options = { terminal: spec.terminal, withInput: withInput && spec.openStdin };
    return await services.engine.attachMain(this.endpoint.containerId, options, signal);
  }

  [Symbol.dispose](): void {
    if (this.#left) return;
    this.#left = true;
    this.#session.traffic.open -= 1;
    this.#session.note();
  }

  /** Its bytes wait in the kernel until it is awake. */
  #wake(): void {
    this.#waking = true;
    const session = this.#session;
    session
      .enqueue(async (signal) => {
        if (session.state.kind !== 'asleep') return;
        const occasion = {
          cause: 'tunnel',
          reason: 'bytes came through a tunnel',
          tell: () => undefined,
          signal,
        } as const;
        await lifecycle.wake(session, occasion);
      })
      .catch((error: unknown) => {
        services(session).warn('a session could not be woken for its tunnel', { err: toLonglineError(error).message });
      })
      .finally(() => {
        this.#waking = false;
      });
  }
}

function services(session: Session) {
  return session.services.log;
}
