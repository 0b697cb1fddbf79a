// AgentService for Connect: the fleet as it stands and as it changes. What has to reach an agent goes over the bus.
import type { ServiceImpl } from '@connectrpc/connect';
import type { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import type { Agent } from '#gen/longline/v1/agent_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { AGENT_ID } from '../../core/ids.ts';
import { agentTopic, fleetTopic, jobTopic } from '../bus/topics.ts';
import { publishSession } from '../dispatch/sweeper.ts';
import { callerOf } from '../identity/authorization.ts';
import { living } from '../identity/replica-certificates.ts';
import type { AgentRecord, AgentSelector } from '../store/agent.ts';
import { watchEvents } from './event-watch.ts';
import { checkedSelector, labelViolations, pageQuery, picks, removedKeyViolations } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { agentView, certificateView, checkpointView, eventView } from './views.ts';
import { nextWithin } from './waiting.ts';

const MAX_REASON = 1024;
const WATCH_PAGE = 1000;
const PENDING_CHANGES = 4096;

/** One change of the watched agents. */
type WatchedChange =
  | { readonly case: 'agent'; readonly value: Agent }
  | { readonly case: 'removedAgentId'; readonly value: string }
  | { readonly case: 'synced'; readonly value: Record<string, never> };

function checkAgentId(agentId: string): void {
  if (AGENT_ID.test(agentId)) return;
  throw invalid([
    { field: 'agent_id', description: `'${agentId.slice(0, 140)}' must be 1 to 128 characters of [A-Za-z0-9._-]` },
  ]);
}

function checkReason(reason: string): void {
  if (reason.length <= MAX_REASON) return;
  throw invalid([
    { field: 'reason', description: `has ${reason.length} characters; at most ${MAX_REASON} are allowed` },
  ]);
}

function reasonOf(verb: string, name: string, reason: string): string {
  return reason === '' ? `${verb} by ${name}` : `${verb} by ${name}: ${reason}`;
}

function present(agent: AgentRecord | undefined, agentId: string): AgentRecord {
  if (agent === undefined) throw new LonglineError('not_found', `no agent has id ${agentId}`);
  return agent;
}

/** Gives the agents that match, then each change. */
class AgentWatch {
  readonly #needs: ServiceDependencies;
  readonly #selector: AgentSelector;
  #known = new Set<string>();

  constructor(needs: ServiceDependencies, selector: AgentSelector) {
    this.#needs = needs;
    this.#selector = selector;
  }

  async *changes(signal: AbortSignal): AsyncGenerator<WatchedChange, void, undefined> {
    const { bus, clock, options } = this.#needs;
    using events = await bus.subscribe(fleetTopic, PENDING_CHANGES);
    yield* this.#listing();
    yield { case: 'synced', value: {} };
    while (!signal.aborted) {
      const event = await nextWithin(events, clock, options.recheckMs, signal);
      if (event?.kind === 'message') yield* this.#one(event.message.agentId);
      else if (event?.kind === 'lagged') yield* this.#listing();
    }
  }

  async *#listing(): AsyncGenerator<WatchedChange, void, undefined> {
    const before = this.#known;
    this.#known = new Set();
    for (let pageToken = ''; ; ) {
      const query = { selector: this.#selector, states: [], pageSize: WATCH_PAGE, pageToken };
      const page = await this.#needs.store.agents.list(query);
      for (const agent of page.items) {
        this.#known.add(agent.id);
        yield { case: 'agent', value: agentView(agent) };
      }
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    for (const id of before) if (!this.#known.has(id)) yield { case: 'removedAgentId', value: id };
  }

  async *#one(agentId: string): AsyncGenerator<WatchedChange, void, undefined> {
    const agent = await this.#needs.store.agents.get(agentId);
    if (agent !== undefined && picks(this.#selector, agent)) {
      this.#known.add(agentId);
      yield { case: 'agent', value: agentView(agent) };
    } else if (this.#known.delete(agentId)) yield { case: 'removedAgentId', value: agentId };
  }
}

async function revoke(needs: ServiceDependencies, agentId: string, reason: string): Promise<Agent> {
  const { store, bus, clock, disconnectAgent, options } = needs;
  const agent = present(await store.agents.revoke(agentId, reason), agentId);
  bus.publish(agentTopic(agentId), { kind: 'revoked', instanceId: '' });
  bus.publish(fleetTopic, { agentId });
  await clock.sleep(options.revokeGraceMs);
  disconnectAgent(agentId);
  return agentView((await store.agents.get(agentId)) ?? agent);
}

interface ReplicaToRevoke {
  readonly agentId: string;
  readonly instanceId: string;
}

async function revokeReplica(needs: ServiceDependencies, replica: ReplicaToRevoke, reason: string): Promise<Agent> {
  const { store, bus, clock, disconnectAgent, options, log } = needs;
  const { agentId, instanceId } = replica;
  present(await store.agents.get(agentId), agentId);
  const outcome = await store.agentIdentities.revokeReplica(agentId, instanceId, clock.now());
  if (outcome === 'missing') {
    const text = `instance_id: no replica ${instanceId.slice(0, 60)} of agent ${agentId} has a certificate; GetAgent lists those that have`;
    throw new LonglineError('not_found', text);
  }
  if (outcome === 'last') {
    const text = `instance_id: ${instanceId} is the only replica of agent ${agentId} that has a certificate: revoke the agent as a whole`;
    throw new LonglineError('wrong_state', text);
  }
  log.info('a replica was revoked', { agentId, instanceId, reason });
  bus.publish(agentTopic(agentId), { kind: 'revoked', instanceId });
  await clock.sleep(options.revokeGraceMs);
  disconnectAgent(agentId, instanceId);
  bus.publish(fleetTopic, { agentId });
  return agentView(present(await store.agents.get(agentId), agentId));
}

async function remove(needs: ServiceDependencies, agentId: string): Promise<void> {
  const { store, bus, clock } = needs;
  const outcome = await store.agents.delete(agentId, clock.now());
  if (outcome.kind === 'missing') throw new LonglineError('not_found', `no agent has id ${agentId}`);
  if (outcome.kind === 'online') {
    throw new LonglineError('wrong_state', `agent ${agentId} is connected; stop it or revoke it before it is deleted`);
  }
  bus.publish(fleetTopic, { agentId });
  // An empty command id names no execution: whoever follows the job looks through all of them.
  for (const jobId of outcome.jobIds) bus.publish(jobTopic(jobId), { commandId: '' });
  for (const sessionId of outcome.sessionIds) publishSession(bus, sessionId);
}

type RecordMethods = Pick<ServiceImpl<typeof AgentService>, 'listAuditCheckpoints' | 'listEvents' | 'watchEvents'>;

/** What agents have told, apart from what they are. */
function recordMethods(needs: ServiceDependencies): RecordMethods {
  const { store } = needs;
  return {
    async listAuditCheckpoints(request) {
      checkAgentId(request.agentId);
      const { items, nextPageToken } = await store.auditCheckpoints.list(request.agentId, pageQuery(request));
      return { checkpoints: items.map(checkpointView), nextPageToken };
    },

    async listEvents(request) {
      if (request.agentId !== '') checkAgentId(request.agentId);
      const { items, nextPageToken } = await store.agentEvents.list(request.agentId, pageQuery(request));
      return { events: items.map(eventView), nextPageToken };
    },

    async *watchEvents({ agentId, backlog }, { signal }) {
      if (agentId !== '') checkAgentId(agentId);
      if (backlog < 0 || backlog > WATCH_PAGE) {
        throw invalid([{ field: 'backlog', description: `is ${backlog}; must be 0 to ${WATCH_PAGE}` }]);
      }
      for await (const event of watchEvents(needs, { agentId, backlog }, signal)) yield { event };
    },
  };
}

/** AgentService over store and bus. */
export function createAgentService(needs: ServiceDependencies): ServiceImpl<typeof AgentService> {
  const { store, bus } = needs;
  const changed = (agent: AgentRecord): { agent: Agent } => {
    bus.publish(fleetTopic, { agentId: agent.id });
    return { agent: agentView(agent) };
  };
  return {
    async listAgents(request) {
      const query = { selector: checkedSelector(request.selector), states: request.states, ...pageQuery(request) };
      const { items, nextPageToken } = await store.agents.list(query);
      return { agents: items.map(agentView), nextPageToken };
    },

    async getAgent({ agentId }) {
      checkAgentId(agentId);
      const agent = agentView(present(await store.agents.get(agentId), agentId));
      const certificates = living((await store.agentIdentities.find(agentId))?.certificates ?? [], needs.clock.now());
      return { agent, certificates: certificates.map(certificateView) };
    },

    async *watchAgents({ selector }, { signal }) {
      for await (const change of new AgentWatch(needs, checkedSelector(selector)).changes(signal)) yield { change };
    },

    async labelAgent({ agentId, set, remove: removed }) {
      checkAgentId(agentId);
      const violations = [...labelViolations(set, 'set'), ...removedKeyViolations(removed, 'remove')];
      for (const key of removed) {
        if (Object.hasOwn(set, key))
          violations.push({ field: `remove[${JSON.stringify(key)}]`, description: 'is also set; do one of the two' });
      }
      if (violations.length > 0) throw invalid(violations);
      return changed(present(await store.agents.assignLabels(agentId, set, removed), agentId));
    },

    async drainAgent({ agentId, resume, reason }, context) {
      checkAgentId(agentId);
      checkReason(reason);
      const drain = resume ? undefined : reasonOf('drained', callerOf(context).name, reason);
      return changed(present(await store.agents.setDrain(agentId, drain), agentId));
    },

    async revokeAgent({ agentId, reason, instanceId }, context) {
      checkAgentId(agentId);
      checkReason(reason);
      const why = reasonOf('revoked', callerOf(context).name, reason);
      if (instanceId === '') return { agent: await revoke(needs, agentId, why) };
      return { agent: await revokeReplica(needs, { agentId, instanceId }, why) };
    },

    async deleteAgent({ agentId }) {
      checkAgentId(agentId);
      await remove(needs, agentId);
      return {};
    },

    ...recordMethods(needs),
  };
}
