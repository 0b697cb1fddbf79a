// What a process tells of itself while no agent of it serves: it starts, stands by, takes over or stops. The same paths and calls are
// there as of an agent that serves; what only such a one can tell is refused, with who can. It knows the election by its view, and
// decides nothing.
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { LogLevels } from '../../telemetry/logger.ts';
import type { AgentConfig } from '../config.ts';
import type { LeadershipView } from '../ha/leadership.ts';
import { AgentHealth } from '../health/agent-health.ts';
import type { Check } from '../health/check.ts';
import { electionCheck } from '../health/election-check.ts';
import { healthMessage } from '../health/health-message.ts';
import { eventLoopCheck } from '../health/host-checks.ts';
import type { LoopPulse } from '../health/loop-pulse.ts';
import { leadershipOf } from '../local/agent-view.ts';
import type { LocalParts, LocalView, NetworkCalls, ProgramCalls } from '../local/local-server.ts';
import { setLogLevel } from '../log-levels.ts';

/** What it is made from. */
export interface WaitingParts {
  readonly config: Pick<AgentConfig, 'agentId' | 'controllerUrl' | 'ha'>;
  readonly pulse: Pick<LoopPulse, 'late'>;
  readonly levels: LogLevels;
  readonly clock: Clock;
  /** Aborts when the process is to end. */
  readonly signal: AbortSignal;
}

/** One per process. */
export class Waiting {
  readonly #parts: WaitingParts;
  readonly #startedAtMs: number;
  #health: AgentHealth;
  #leadership: (() => LeadershipView) | undefined;

  constructor(parts: WaitingParts) {
    this.#parts = parts;
    this.#startedAtMs = parts.clock.now();
    this.#health = this.#healthOf([]);
  }

  get health(): AgentHealth {
    return this.#health;
  }

  /** Undefined before there is an election, and where there is none. */
  get leadership(): (() => LeadershipView) | undefined {
    return this.#leadership;
  }

  /** There is an election from now on. */
  elects(view: () => LeadershipView): void {
    this.#leadership = view;
    this.#health = this.#healthOf([electionCheck(view, this.#parts.config.ha.ttlMs)]);
  }

  /** Why it is not ready: to take over, as nothing else is asked of it. Undefined if it is. */
  get unready(): string | undefined {
    if (this.#parts.signal.aborted) return 'the agent is stopping';
    const view = this.#leadership?.();
    if (view === undefined) return 'the agent is starting';
    if (view.role === 'leader') return 'this replica leads and is taking over';
    if (view.problem !== '') return `this replica can't take over: ${view.problem}`;
    return view.asked ? undefined : 'this replica has not asked yet who leads';
  }

  /** What the local service does meanwhile. */
  get local(): LocalParts {
    return { view: this.view, networks: this.#networks, programs: this.programs };
  }

  get programs(): ProgramCalls {
    const { refuse } = this;
    return { list: refuse, rollbacks: refuse, rollBack: refuse, release: refuse };
  }

  get view(): LocalView {
    const { config, levels } = this.#parts;
    const { refuse } = this;
    return {
      status: async () => ({
        ...{ agentId: config.agentId, controller: config.controllerUrl ?? '' },
        ...{ linkState: 'closed', linkReason: this.#standing },
        startTime: timestampFromMs(this.#startedAtMs),
        ...leadershipOf(this.#leadership),
      }),
      health: async () => healthMessage(await this.health.report()),
      setLogLevel: async (request) => setLogLevel(levels, request),
      commands: refuse,
      explain: refuse,
      explainSession: refuse,
      reload: refuse,
    };
  }

  get #networks(): NetworkCalls {
    const { refuse } = this;
    return { apply: refuse, remove: refuse, list: refuse };
  }

  get #standing(): string {
    return this.unready ?? 'this replica stands by';
  }

  /** Throws why, and who can be asked. */
  readonly refuse = async (): Promise<never> => {
    const view = this.#leadership?.();
    if (view?.role !== 'standby') throw new LonglineError('unavailable', `${this.#standing}; ask again`);
    const { leader } = view;
    const who = leader === '' ? 'whoever leads' : `the leader, ${leader}`;
    throw new LonglineError('wrong_state', `this replica stands by; ask ${who}`);
  };

  #healthOf(more: readonly Check[]): AgentHealth {
    const { clock, pulse } = this.#parts;
    return new AgentHealth({ clock, checks: [eventLoopCheck(pulse), ...more], unready: () => this.unready });
  }
}
