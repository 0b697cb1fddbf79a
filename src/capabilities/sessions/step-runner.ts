// Takes the steps of a plan, one after the other, and undoes what it made when one fails. Every step is told when it
// begins and how it ended. Ends by throwing the failure of the step, with what it means for the session.
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { PullFailed } from '../../core/images/image-puller.ts';
import { ATTRIBUTE } from '../../core/span-names.ts';
import { traced } from '../../core/tracer.ts';
import { containerSpecOf, LABEL, type SessionNames, type Step, type StepReport, standingOf, UNDO } from './plan.ts';
import type { ProbeTarget, SessionContainerFacts } from './ports.ts';
import type { SessionServices } from './services.ts';
import type { SessionSpec } from './session-spec.ts';
import type { Cause } from './state.ts';
import { freeSubnets } from './subnet-pool.ts';

/** A step failed, and what that makes of the session. */
export class StepFailed extends Error {
  override readonly name = 'StepFailed';
  readonly error: LonglineError;
  readonly failure: Cause;

  constructor(error: LonglineError, failure: Cause) {
    super(error.message, { cause: error });
    this.error = error;
    this.failure = failure;
  }
}

/** The session whose steps are taken. */
export interface SteppedSession {
  readonly sessionId: string;
  readonly generation: number;
  readonly spec: SessionSpec;
  readonly names: SessionNames;
  readonly containerId: string;
  readonly imageId: string;
  readonly target: ProbeTarget;
  readonly stopGraceMs: number;
  /** Makes it durable which image and container it has; before they are used. */
  imageFound(image: { readonly id: string; readonly pinned: string }): Promise<void>;
  containerMade(containerId: string): Promise<void>;
  /** Attaches to the output, starts or unpauses or restores, and makes the start durable first. */
  startContainer(signal: AbortSignal): Promise<void>;
  /** It was seen to run. */
  running(facts: SessionContainerFacts): void;
  /** Writes its memory to disk. */
  checkpoint(signal: AbortSignal): Promise<void>;
  /** One health probe; throws why it failed. */
  probeHealth(signal: AbortSignal): Promise<void>;
  /** A port answered. */
  portReady(port: number): void;
}

/** How steps are taken. */
export interface StepOptions {
  readonly signal: AbortSignal;
  /** By the clock's monotonic time: what must have come by itself by then. */
  readonly deadlineMs: number;
  readonly resumed: boolean;
  tell(report: StepReport): void;
}

const POLL_MS = { first: 10, most: 500 } as const;
const SUBNET_TRIES = 8;
const PORT_PROBE_MS = 1000;
const UNDO_LIMIT_MS = 30_000;

/** Runs plans for one session. */
export class StepRunner {
  readonly #services: SessionServices;
  readonly #session: SteppedSession;

  constructor(services: SessionServices, session: SteppedSession) {
    this.#services = services;
    this.#session = session;
  }

  /** Takes the steps in order. Throws StepFailed after undoing what was made; nothing is undone without the engine. */
  async run(steps: readonly Step[], options: StepOptions): Promise<void> {
    const made: Step[] = [];
    for (const step of steps) {
      const { subject } = step;
      const resumed = options.resumed ? { resumed: true } : {};
      const tell = (state: StepReport['state'], more: Partial<StepReport> = {}) =>
        options.tell({ step: step.step, state, subject, ...resumed, ...more });
      tell('begun');
      try {
        options.signal.throwIfAborted();
        const outcome = await this.#traced(step, options);
        if (outcome === 'done') made.push(step);
        tell(outcome);
      } catch (thrown) {
        const failed = failureOf(step, thrown, options.signal);
        tell('failed', { error: failed.error });
        await this.#undo(made, options);
        throw failed;
      }
    }
  }

  async #undo(made: readonly Step[], options: StepOptions): Promise<void> {
    const limit = AbortSignal.timeout(UNDO_LIMIT_MS);
    for (const step of made.toReversed()) {
      const undo = UNDO[step.step];
      if (undo === undefined) continue;
      try {
        await this.#take({ ...step, step: undo }, { ...options, signal: limit });
        options.tell({ step: step.step, state: 'undone', subject: step.subject });
      } catch (error) {
        // What can't be taken away now is found by the sweep, by its label.
        this.#services.log.warn('a step could not be undone yet', { ...step, err: toLonglineError(error) });
      }
    }
  }

  /** A step's span has its name: "pull", "create", "start", and so on. */
  async #traced(step: Step, options: StepOptions): Promise<'done' | 'found'> {
    const { sessionId } = this.#session;
    const attributes = { [ATTRIBUTE.sessionId]: sessionId, [ATTRIBUTE.subject]: step.subject };
    return await traced(this.#services.tracer, step.step, { attributes }, () => this.#take(step, options));
  }

  async #take(step: Step, options: StepOptions): Promise<'done' | 'found'> {
    const { engine } = this.#services;
    const session = this.#session;
    const { signal } = options;
    switch (step.step) {
      case 'admit':
        return 'done';
      case 'network':
        return await this.#network(step.subject, signal);
      case 'volume':
        return await this.#volume(step, signal);
      case 'pull':
        return await this.#pull(options);
      case 'create':
        return await this.#create(signal);
      case 'start':
        await session.startContainer(signal);
        return 'done';
      case 'running':
        return await this.#running(options);
      case 'healthy':
        return await this.#until('its health check to pass', options, () => session.probeHealth(signal));
      case 'tunnel_ready':
        return await this.#port(Number(step.subject), options);
      case 'pause':
        await engine.pauseContainer(session.containerId, signal);
        return 'done';
      case 'checkpoint':
        await session.checkpoint(signal);
        return 'done';
      case 'stop':
        return await this.#stop(signal);
      case 'remove_container':
        return await this.#removeContainer(signal);
      case 'remove_network':
        return await this.#removeNetwork(step.subject, signal);
      case 'remove_volume':
        return await this.#removeVolume(step.subject, signal);
    }
  }

  get #labels(): Readonly<Record<string, string>> {
    return { [LABEL.instance]: this.#services.instanceId, [LABEL.session]: this.#session.sessionId };
  }

  async #network(name: string, signal: AbortSignal): Promise<'done' | 'found'> {
    const { engine, config, instanceId } = this.#services;
    const { spec, names, sessionId } = this.#session;
    const found = await engine.findNetwork(name, signal);
    const internal = spec.network.mode === 'isolated' && spec.network.internal;
    if (found !== undefined) {
      if (!names.ownNetwork) return 'found';
      if (found.labels[LABEL.instance] !== instanceId)
        throw new LonglineError('already_exists', `network ${name} is there and is not this agent's`);
      if (found.internal === internal) return 'found';
      // Left over from another life of this id: the way out, or its absence, is not what was asked for.
      await engine.removeNetwork(name, signal);
    }
    const labels = names.ownNetwork ? this.#labels : { [LABEL.instance]: instanceId };
    const taken = (await engine.listNetworks(signal)).flatMap(({ subnets }) => subnets);
    const candidates = freeSubnets(config.subnetPool, taken, sessionId, SUBNET_TRIES);
    for (const subnet of candidates) {
      try {
        await engine.createNetwork({ name, labels, internal, subnet }, signal);
        return 'done';
      } catch (error) {
        if (error instanceof LonglineError && error.reason === 'already_exists') return 'found';
        // Somebody else on this host has these addresses.
        if (!(error instanceof LonglineError && error.reason === 'limit')) throw error;
      }
    }
    throw new LonglineError('limit', `network ${name}: no free addresses are left in subnet_pool ${config.subnetPool}`);
  }

  async #volume({ subject: name, volume: index = 0 }: Step, signal: AbortSignal): Promise<'done' | 'found'> {
    const { engine, instanceId } = this.#services;
    if ((await engine.findVolume(name, signal)) !== undefined) return 'found';
    const { driver, options, quotaBytes, scope } = this.#session.spec.volumes[index]!;
    const whose = scope === 'session' ? this.#labels : { [LABEL.instance]: instanceId };
    await engine.createVolume(
      { name, driver, options, quotaBytes, labels: { ...whose, [LABEL.scope]: scope } },
      signal,
    );
    return 'done';
  }

  async #pull({ signal, tell }: StepOptions): Promise<'done' | 'found'> {
    const { puller } = this.#services;
    const { image, pullPolicy } = this.#session.spec;
    let pulled = false;
    const facts = await puller.ensure(
      image,
      pullPolicy,
      (pull) => {
        pulled = true;
        tell({ step: 'pull', state: 'begun', subject: image, pull });
      },
      signal,
    );
    await this.#session.imageFound(facts);
    return pulled ? 'done' : 'found';
  }

  async #create(signal: AbortSignal): Promise<'done' | 'found'> {
    const { engine } = this.#services;
    const spec = this.#containerSpec();
    for (let replaced = false; ; replaced = true) {
      try {
        const id = await engine.createContainer(spec, signal);
        await this.#session.containerMade(id);
        return 'done';
      } catch (error) {
        if (!(error instanceof LonglineError && error.reason === 'already_exists') || replaced) throw error;
        const standing = standingOf(await engine.inspectContainer(spec.name, signal), spec.labels);
        if (standing.kind === 'foreign') {
          throw new LonglineError(
            'already_exists',
            `the name ${spec.name} is taken by a container that is not this agent's`,
          );
        }
        if (standing.kind === 'ours' && standing.state === 'created') {
          await this.#session.containerMade(standing.containerId);
          return 'found';
        }
        if (standing.kind !== 'absent') await engine.removeContainer(standing.containerId, signal);
      }
    }
  }

  #containerSpec() {
    const { config, instanceId } = this.#services;
    const { spec, names, sessionId, generation } = this.#session;
    return containerSpecOf(spec, names, { sessionId, instanceId, generation, imageId: this.#session.imageId }, config);
  }

  async #running(options: StepOptions): Promise<'done'> {
    const { engine, clock } = this.#services;
    const { containerId } = this.#session;
    for (let waitMs: number = POLL_MS.first; ; waitMs = Math.min(2 * waitMs, POLL_MS.most)) {
      const facts = await engine.inspectContainer(containerId, options.signal);
      if (facts === undefined) throw new LonglineError('not_found', 'its container was removed while it started');
      if (facts.state === 'running' || facts.state === 'paused') {
        this.#session.running(facts);
        return 'done';
      }
      if (facts.state !== 'created') throw endedAtOnce(facts);
      if (clock.monotonic() > options.deadlineMs) throw tooLate('its container to run');
      await clock.sleep(waitMs, options.signal);
    }
  }

  async #port(port: number, options: StepOptions): Promise<'done'> {
    const { engine } = this.#services;
    return await this.#until(`port ${port} to take connections`, options, async () => {
      await engine.probeTcp(this.#session.target, port, PORT_PROBE_MS, options.signal);
      this.#session.portReady(port);
    });
  }

  /** Tries until it succeeds; what ends while it is waited for is not waited for any longer. */
  async #until(what: string, options: StepOptions, attempt: () => Promise<void>): Promise<'done'> {
    const { engine, clock } = this.#services;
    for (let waitMs: number = POLL_MS.first; ; waitMs = Math.min(2 * waitMs, POLL_MS.most)) {
      try {
        await attempt();
        return 'done';
      } catch (error) {
        options.signal.throwIfAborted();
        const facts = await engine.inspectContainer(this.#session.containerId, options.signal);
        if (facts === undefined || facts.exitCode !== undefined) throw endedAtOnce(facts);
        if (clock.monotonic() > options.deadlineMs) throw tooLate(what, toLonglineError(error).message);
      }
      await clock.sleep(waitMs, options.signal);
    }
  }

  async #stop(signal: AbortSignal): Promise<'done' | 'found'> {
    const { engine } = this.#services;
    const facts = await engine.inspectContainer(this.#session.containerId, signal);
    if (facts === undefined || facts.state === 'exited' || facts.state === 'created') return 'found';
    // A frozen process hears no signal.
    if (facts.state === 'paused') await engine.unpauseContainer(facts.id, signal);
    await engine.stopContainer(facts.id, this.#session.stopGraceMs, signal);
    return 'done';
  }

  async #removeContainer(signal: AbortSignal): Promise<'done' | 'found'> {
    const { engine, instanceId } = this.#services;
    const { names } = this.#session;
    const facts = await engine.inspectContainer(names.container, signal);
    if (facts === undefined || facts.labels[LABEL.instance] !== instanceId) return 'found';
    await engine.removeContainer(facts.id, signal);
    return 'done';
  }

  async #removeNetwork(name: string, signal: AbortSignal): Promise<'done' | 'found'> {
    const { engine, instanceId } = this.#services;
    const found = await engine.findNetwork(name, signal);
    if (found === undefined || found.labels[LABEL.instance] !== instanceId) return 'found';
    await engine.removeNetwork(name, signal);
    return 'done';
  }

  async #removeVolume(name: string, signal: AbortSignal): Promise<'done' | 'found'> {
    const { engine, instanceId } = this.#services;
    const found = await engine.findVolume(name, signal);
    if (found === undefined || found.labels[LABEL.instance] !== instanceId) return 'found';
    await engine.removeVolume(name, signal);
    return 'done';
  }
}

function endedAtOnce(facts: SessionContainerFacts | undefined): LonglineError {
  if (facts === undefined) return new LonglineError('not_found', 'its container was removed while it started');
  const how = facts.oomKilled ? 'was killed for memory' : `ended with exit code ${facts.exitCode ?? 'unknown'}`;
  const said = facts.error === '' ? '' : `; the engine says: ${facts.error}`;
  return new LonglineError('wrong_state', `its main process ${how} before it was ready${said}`);
}

function tooLate(what: string, last?: string): LonglineError {
  const detail = last === undefined ? '' : `; the last try said: ${last}`;
  return new LonglineError('late', `start_timeout passed while waiting for ${what}${detail}`);
}

/** What a step's failure makes of the session. */
function failureOf(step: Step, thrown: unknown, signal: AbortSignal): StepFailed {
  if (signal.aborted) return new StepFailed(toLonglineError(signal.reason), 'cancelled');
  const inner = thrown instanceof PullFailed ? thrown.error : toLonglineError(thrown);
  const { reason } = inner;
  if (reason === 'late') return new StepFailed(inner, 'start_timeout');
  if (reason === 'limit') return new StepFailed(inner, 'host_limit');
  if (step.step === 'pull' && (thrown instanceof PullFailed || reason === 'not_found' || reason === 'identity')) {
    return new StepFailed(inner, 'image_unavailable');
  }
  return new StepFailed(inner, reason === 'unavailable' ? 'engine_lost' : 'start_failed');
}
