// Drives meshes: brings what members' agents are asked for up to date with each mesh, and meshes up to date with what agents
// say. It holds nothing that matters: all it decides is stored before it is done, each time against the revision that was read,
// so it can be killed anywhere, and several may run beside each other. What fails is logged and tried again.
import { fromBinary } from '@bufbuild/protobuf';
import { type MeshSpec, MeshSpecSchema } from '#gen/longline/fleet/v1/network_service_pb.js';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { Progress } from '../../core/progress.ts';
import { Undertakings } from '../../core/undertakings.ts';
import type { Bus } from '../bus/bus.ts';
import { desiredStatesTopic, fleetTopic, meshesTopic, networksTopic } from '../bus/topics.ts';
import { memberFacts, statusIn } from '../networks/agent-report.ts';
import { NetworkChanges } from '../networks/network-changes.ts';
import { forgetRemoved } from '../states/removed-items.ts';
import type { MeshState } from '../store/mesh.ts';
import type { MemberFactsRecord, NetworkRecord } from '../store/network.ts';
import type { Store } from '../store/store.ts';
import { activeRotation } from './key-rotation.ts';
import { MemberNetworks } from './member-network.ts';
import { syncMesh } from './mesh-sync.ts';
import { type MeshProgress, progressOf } from './progress.ts';
import { dueRotation } from './rotation-schedule.ts';

/** Meshes that are driven side by side. */
const CONCURRENCY = 4;

/** Longer than a turn takes, with the largest fleets. */
const TURN_LIMIT_MS = 900_000;

/** Changes that one mesh may make in a row before others have their turn. */
const MAX_ROUNDS = 16;

/** How long ended rotations are listed. */
const KEEP_ROTATIONS_MS = 30 * 86_400_000;

/** Longest pages of names and agents. */
const PAGE = 1000;

/** What it is made from. */
export interface MeshDriverParts {
  readonly store: Store;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Logger;
  /** How often everything is looked at, should a wake-up have been lost. */
  readonly recheckMs: number;
}

/** Drives all meshes of a store. */
export class MeshDriver {
  readonly #parts: MeshDriverParts;
  readonly #turns: Undertakings;
  readonly #changes: NetworkChanges;
  readonly #dirtyMeshes = new Set<string>();
  readonly #dirtyAgents = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  /** Layout that the networks of a mesh's members were last brought up to date with, by this driver. */
  readonly #synced = new Map<string, number>();
  /** Agents that could not be asked for theirs then, by mesh: tried again with the next look at everything. */
  readonly #leftOut = new Map<string, ReadonlySet<string>>();
  /** Members of meshes as this driver last saw them: of others a fleet tells much that is nothing to meshes. */
  readonly #members = new Map<string, ReadonlySet<string>>();
  #wake: (() => void) | undefined;

  constructor(parts: MeshDriverParts) {
    this.#parts = parts;
    this.#turns = new Undertakings('meshes', parts.clock);
    this.#changes = new NetworkChanges(parts);
  }

  /** Whether what is under way gets on. */
  get progress(): readonly Progress[] {
    return this.#turns.progress;
  }

  /** Drives until the signal aborts, and resolves when nothing is under way any more. */
  async run(signal: AbortSignal): Promise<void> {
    const { bus, clock, recheckMs } = this.#parts;
    using _meshes = await bus.listen(meshesTopic, (event) => this.#note(this.#dirtyMeshes, event, 'mesh'));
    using _fleet = await bus.listen(fleetTopic, (event) => {
      if (event.kind === 'lagged' || this.#isMember(event.message.agentId)) {
        this.#note(this.#dirtyAgents, event, 'agentId');
      }
    });
    using _states = await bus.listen(desiredStatesTopic, (event) => {
      if (event.kind === 'lagged' || event.message.stateKind === DesiredStateKind.NETWORK) {
        this.#note(this.#dirtyAgents, event, 'agentId');
      }
    });
    let recheckAtMs = clock.monotonic();
    while (!signal.aborted) {
      if (clock.monotonic() >= recheckAtMs) {
        recheckAtMs = clock.monotonic() + recheckMs;
        await this.#attempt('all meshes', () => this.#recheck());
      }
      await this.#attempt('agents of meshes', () => this.#lookAtAgents());
      this.#start(signal);
      await this.#pause(recheckAtMs - clock.monotonic(), signal);
    }
    await Promise.all(this.#running.values());
  }

  /** One mesh, until there is nothing to do for now. Public for those who drive by hand. */
  async drive(name: string): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS; round++) if (!(await this.#round(name))) return;
    this.#dirtyMeshes.add(name);
  }

  #isMember(agentId: string): boolean {
    for (const members of this.#members.values()) if (members.has(agentId)) return true;
    return false;
  }

  #note<K extends string>(
    dirty: Set<string>,
    event: { readonly kind: 'lagged' } | { readonly kind: 'message'; readonly message: Readonly<Record<K, string>> },
    key: K,
  ): void {
    if (event.kind === 'message') dirty.add(event.message[key]);
    this.#wake?.();
  }

  async #recheck(): Promise<void> {
    const { clock, store } = this.#parts;
    for (const name of this.#leftOut.keys()) this.#synced.delete(name);
    for (let pageToken = ''; ; ) {
      const page = await store.meshes.list({ pageSize: PAGE, pageToken });
      for (const name of page.items) this.#dirtyMeshes.add(name);
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    for (const agentId of await store.networks.agentsWithLeftovers(PAGE)) this.#dirtyAgents.add(agentId);
    while ((await store.meshes.deleteEndedRotations(clock.now() - KEEP_ROTATIONS_MS, PAGE)) === PAGE);
  }

  async #lookAtAgents(): Promise<void> {
    const agents = [...this.#dirtyAgents];
    this.#dirtyAgents.clear();
    for (const agentId of agents) {
      const meshes = await this.#parts.store.meshes.ofAgent(agentId);
      await this.#removeLeftovers(agentId, meshes);
      await forgetRemoved(this.#parts, agentId, {
        stateKind: DesiredStateKind.NETWORK,
        topic: networksTopic,
        repository: this.#parts.store.networks,
        isTold: (report, name) => statusIn(report, name) !== undefined,
      });
      for (const name of meshes) this.#dirtyMeshes.add(name);
    }
  }

  /** A revoked agent is no member any more at once, and its network is nobody's. */
  async #removeLeftovers(agentId: string, meshes: readonly string[]): Promise<void> {
    const isLeft = ({ mesh, removing }: NetworkRecord) => mesh !== '' && !removing && !meshes.includes(mesh);
    const left = (await this.#parts.store.networks.ofAgent(agentId)).filter(isLeft);
    if (left.length === 0) return;
    await this.#changes.apply(agentId, (networks) =>
      networks.filter(isLeft).map(({ name }) => ({ kind: 'remove', name })),
    );
    // Should it have joined again meanwhile, what was taken from it is given back.
    for (const { mesh } of left) {
      this.#synced.delete(mesh);
      this.#dirtyMeshes.add(mesh);
    }
  }

  #start(signal: AbortSignal): void {
    for (const name of this.#dirtyMeshes) {
      if (this.#running.size >= CONCURRENCY) return;
      // One that is being driven has its next turn after this one.
      if (this.#running.has(name) || signal.aborted) continue;
      this.#dirtyMeshes.delete(name);
      const driving = this.#attempt(`mesh ${name}`, () => this.drive(name)).finally(() => {
        this.#running.delete(name);
        this.#wake?.();
      });
      this.#running.set(name, driving);
    }
  }

  /** True if it changed something: then there may be more to do. */
  async #round(name: string): Promise<boolean> {
    const { bus, clock, store } = this.#parts;
    const state = await store.meshes.get(name);
    if (state === undefined) {
      this.#forget(name);
      return false;
    }
    this.#members.set(name, new Set(state.members.map(({ agentId }) => agentId)));
    const spec = fromBinary(MeshSpecSchema, state.mesh.spec);
    let records = await store.networks.memberFacts(name);
    if (this.#synced.get(name) !== state.mesh.layout) {
      const leftOut = await syncMesh({ changes: this.#changes, log: this.#parts.log }, spec, state, records);
      if (leftOut.size > 0) this.#leftOut.set(name, leftOut);
      else this.#leftOut.delete(name);
      this.#synced.set(name, state.mesh.layout);
      records = await store.networks.memberFacts(name);
    }
    const networks = (members: MeshState['members']) =>
      new MemberNetworks(spec, members, activeRotation(state.rotations));
    // What those who were left out say is an answer to something else.
    const answers = records.map((record) => {
      return this.#leftOut.get(name)?.has(record.agentId) ? { ...record, report: undefined } : record;
    });
    const facts = new Map(answers.map((record) => [record.agentId, memberFacts(record)]));
    const progress = progressOf(state, facts, {
      topology: spec.topology,
      peersOf: (member, members) =>
        networks(members)
          .neighbours(member)
          .map((one) => one.member.agentId),
      nowMs: clock.now(),
    });
    const change = progress ?? this.#scheduled(spec, state, records);
    if (change === undefined) return await this.#finish(state);
    const { mesh } = state;
    await store.meshes.commit({ name, baseRevision: mesh.revision, nowMs: clock.now(), asked: false, ...change });
    bus.publish(meshesTopic, { mesh: name });
    for (const agentId of change.removedMembers ?? []) this.#dirtyAgents.add(agentId);
    return true;
  }

  #scheduled(spec: MeshSpec, state: MeshState, records: readonly MemberFactsRecord[]): MeshProgress | undefined {
    const online = new Set(records.filter((record) => record.online).map(({ agentId }) => agentId));
    const due = dueRotation(spec, state, online, this.#parts.clock.now());
    return due && { newLayout: false, putRotations: [due] };
  }

  async #finish({ mesh, members }: MeshState): Promise<false> {
    const { name, removing, revision } = mesh;
    if (removing && members.length === 0 && (await this.#parts.store.meshes.delete(name, revision))) {
      this.#forget(name);
      this.#parts.bus.publish(meshesTopic, { mesh: name });
    }
    return false;
  }

  #forget(name: string): void {
    this.#synced.delete(name);
    this.#leftOut.delete(name);
    this.#members.delete(name);
  }

  async #attempt(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await this.#turns.run(what, TURN_LIMIT_MS, work);
    } catch (error) {
      this.#parts.log.error(`${what}: failed; tried again`, { err: describeError(error) });
    }
  }

  /** Until something is noted, a mesh was driven, or the time is over. */
  async #pause(limitMs: number, signal: AbortSignal): Promise<void> {
    const startable = [...this.#dirtyMeshes].some((name) => !this.#running.has(name));
    if (this.#dirtyAgents.size > 0 || (startable && this.#running.size < CONCURRENCY)) return;
    const over = new AbortController();
    const wake = (): void => over.abort();
    this.#wake = wake;
    signal.addEventListener('abort', wake, { once: true });
    if (signal.aborted) wake();
    await this.#parts.clock.sleep(Math.max(0, limitMs), over.signal).catch(() => undefined);
    signal.removeEventListener('abort', wake);
    this.#wake = undefined;
  }
}
