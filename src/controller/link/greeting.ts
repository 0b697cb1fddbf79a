// From Hello to Welcome: whether a control stream may be served, and from where it goes on.
import { createHash, randomBytes } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type ControllerMessage,
  ControllerMessageSchema,
  DesiredStateKind,
  type DesiredStateRef,
  type Hello,
  StateReportSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { type AgentFacts, AgentFactsSchema } from '#gen/longline/v1/agent_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { isUuid } from '../../core/ids.ts';
import { agentTopic, fleetTopic } from '../bus/topics.ts';
import { publishChanges } from '../dispatch/sweeper.ts';
import type { AgentConnection, ConnectOutcome } from '../store/agent.ts';
import type { StateReportRecord } from '../store/state-report.ts';
import { type LinkDependencies, PROTOCOL } from './link-options.ts';
import { isReported } from './state-inbox.ts';
import { jobsOffer, ownLabels, sessionsOffer } from './wire.ts';

/** Periods without a sign of life after which the peer counts as gone. */
export const SILENT_PERIODS = 3;

/** Past it no later epoch could fence an earlier one: nobody would ever be let in again. */
const MAX_EPOCH = 2n ** 53n - 1n;

/** Kinds of states that are looked up; there are fewer. */
const MAX_STATES = 16;

/** Throws unless Hello is sound, speaks a common protocol and names the agent that its credentials name. */
export function checkHello(hello: Hello, agentId: string): void {
  if (hello.protocolMin > PROTOCOL.max || hello.protocolMax < PROTOCOL.min) {
    throw new LonglineError(
      'wrong_state',
      `the agent speaks protocol ${hello.protocolMin} to ${hello.protocolMax}, this controller ${PROTOCOL.min} to ${PROTOCOL.max}: update the older of the two`,
    );
  }
  if (hello.agentId !== agentId) {
    throw new LonglineError(
      'identity',
      `Hello names agent '${hello.agentId.slice(0, 128)}', the credentials name '${agentId}'`,
    );
  }
  const violations: FieldViolation[] = [];
  for (const [field, value] of [
    ['hello.instance_id', hello.instanceId],
    ['hello.boot_id', hello.bootId],
  ] as const) {
    if (!isUuid(value)) violations.push({ field, description: `'${value.slice(0, 64)}' must be a lower-case UUID` });
  }
  if (hello.sessionToken.length > 32) {
    violations.push({
      field: 'hello.session_token',
      description: `has ${hello.sessionToken.length} bytes; at most 32 are allowed`,
    });
  }
  if (hello.lastCommandSeq > BigInt(Number.MAX_SAFE_INTEGER)) {
    violations.push({
      field: 'hello.last_command_seq',
      description: `${hello.lastCommandSeq} is more than was ever given out`,
    });
  }
  if (hello.leaderEpoch > MAX_EPOCH) {
    violations.push({
      field: 'hello.leader_epoch',
      description: `${hello.leaderEpoch} is more than replicas can count past; at most ${MAX_EPOCH} is taken`,
    });
  }
  if (violations.length > 0) throw invalid(violations);
}

/** First 16 bytes of the SHA-256 of serialised facts. */
export function factsDigest(facts: Uint8Array): Uint8Array {
  return createHash('sha256').update(facts).digest().subarray(0, 16);
}

/** Stores what an agent says about itself. */
export async function storeFacts(
  needs: LinkDependencies,
  agentId: string,
  facts: AgentFacts,
  digest: Uint8Array | undefined,
): Promise<void> {
  const bytes = toBinary(AgentFactsSchema, facts);
  await needs.store.agents.putFacts({
    agentId,
    facts: bytes,
    digest: digest ?? factsDigest(bytes),
    labels: ownLabels(facts),
    ...jobsOffer(facts),
    ...sessionsOffer(facts),
  });
  needs.bus.publish(fleetTopic, { agentId });
}

function refuse(outcome: Exclude<ConnectOutcome, { kind: 'connected' }>, connection: AgentConnection): never {
  const { agentId } = connection;
  switch (outcome.kind) {
    case 'revoked':
      throw new LonglineError('identity', `agent ${agentId} was revoked`);
    case 'fenced':
      throw new LonglineError(
        'stale',
        `agent ${agentId}: leader epoch ${connection.leaderEpoch} is over or another's, epoch ${outcome.newestEpoch} was seen; it must stand by, be elected anew, or start with the data folder of its last leader`,
        { newestEpoch: outcome.newestEpoch },
      );
    case 'occupied':
      throw new LonglineError(
        'already_exists',
        outcome.instanceId === connection.instanceId
          ? `agent ${agentId} is connected from another process with the same data folder, or was until a moment ago: a copied folder can't be used beside the original; give the copy an empty one, an id and a token of its own`
          : `agent ${agentId} is connected as instance ${outcome.instanceId}, this is ${connection.instanceId}: give each host an id of its own`,
        { retryable: true },
      );
  }
}

/** What Hello names that was reported already: a reconnect without changes need not repeat it. */
async function knownStates({ store }: LinkDependencies, hello: Hello): Promise<DesiredStateRef[]> {
  const known: DesiredStateRef[] = [];
  if (hello.desiredStates.length === 0) return known;
  // Of what was refused before it is to be heard that it isn't any more.
  const heads = await store.desiredStates.heads(hello.agentId);
  const refused = new Set(heads.filter(({ refusal }) => refusal !== undefined).map(({ kind }) => kind));
  for (const named of hello.desiredStates.slice(0, MAX_STATES)) {
    const stored = await store.stateReports.get(hello.agentId, named.kind);
    if (stored === undefined || refused.has(named.kind)) continue;
    const sessions = named.kind === DesiredStateKind.SESSIONS;
    if (sessions ? holdsSessions(named, stored) : isReported(named, stored)) known.push(named);
  }
  return known;
}

function holdsSessions({ digest: named }: DesiredStateRef, { report }: StateReportRecord): boolean {
  const { digest } = fromBinary(StateReportSchema, report);
  return digest.length > 0 && Buffer.compare(digest, named) === 0;
}

/** How a stream begins. */
export interface Greeting {
  readonly welcome: ControllerMessage;
  /**
   * Commands that are lost if this Hello is the agent's latest. One that an earlier process of the agent wrote may come
   * late, but its process can't answer the Welcome: whatever is heard after that proves it.
   */
  readonly missingIds: readonly string[];
}

/** Makes a stream the agent's own and takes over what the agent says it has. */
export async function greet(needs: LinkDependencies, hello: Hello, connectionId: string): Promise<Greeting> {
  const { store, bus, clock, options } = needs;
  const { agentId, instanceId, bootId } = hello;
  const nowMs = clock.now();
  const connection: AgentConnection = {
    agentId,
    connectionId,
    replicaId: needs.replicaId,
    instanceId,
    bootId,
    leaderEpoch: hello.leaderEpoch,
    presentedToken: hello.sessionToken,
    sessionToken: randomBytes(16),
    nowMs,
    aliveSinceMs: nowMs - SILENT_PERIODS * options.heartbeatMs - options.sightingIntervalMs,
  };
  const outcome = await store.agents.connect(connection);
  if (outcome.kind !== 'connected') {
    needs.log.warn('agent refused', { agentId, instanceId, bootId, why: outcome.kind });
    refuse(outcome, connection);
  }
  bus.publish(agentTopic(agentId), { kind: 'replaced', connectionId, leaderEpoch: `${hello.leaderEpoch}` });
  const { previous } = outcome;
  const earlier = previous?.leaderEpoch ?? 0n;
  if (earlier > 0n && hello.leaderEpoch > earlier) needs.meter.tookOver();
  const { changes, missingIds } = await store.commands.resume({
    agentId,
    lastCommandSeq: Number(hello.lastCommandSeq),
    inFlightIds: hello.inFlightCommandIds,
    pendingResultIds: hello.pendingResultIds,
    sameBoot: previous?.instanceId === instanceId && previous.bootId === bootId,
    nowMs,
  });
  publishChanges(bus, changes);
  if (hello.facts !== undefined) await storeFacts(needs, agentId, hello.facts, hello.factsDigest);
  bus.publish(fleetTopic, { agentId });
  const known = hello.facts !== undefined ? hello.factsDigest : previous?.factsDigest;
  const welcome = create(ControllerMessageSchema, {
    message: {
      case: 'welcome',
      value: {
        protocol: PROTOCOL.max,
        sessionToken: connection.sessionToken,
        heartbeatInterval: durationFromMs(options.heartbeatMs),
        maxMessageBytes: options.maxMessageBytes,
        serverTime: timestampFromMs(nowMs),
        needFacts: known === undefined || Buffer.compare(known, hello.factsDigest) !== 0,
        resumed: outcome.resumed,
        controllerId: needs.controllerId,
        knownStates: await knownStates(needs, hello),
      },
    },
  });
  return { welcome, missingIds };
}
