// The opening words of a control stream: what Hello says, and what may come back.
import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  type AgentMessage,
  AgentMessageSchema,
  type DesiredStateRef,
  HelloSchema,
  type Welcome,
} from '#gen/longline/link/v1/link_pb.js';
import { type AgentFacts, AgentFactsSchema } from '#gen/longline/v1/agent_pb.js';
import type { SessionStatus } from '#gen/longline/v1/session_pb.js';
import { LonglineError } from '../core/errors.ts';
import type { Journal } from './journal.ts';
import type { LinkTarget } from './ports.ts';
import { sessionsRef } from './session-reports.ts';
import { durationMs, timeMs } from './wire.ts';

/** Protocol versions spoken here. */
export const PROTOCOL = { min: 1, max: 1 } as const;

/** A Welcome with its values checked and its defaults filled in. */
export interface WelcomeTerms {
  readonly controllerId: string;
  readonly sessionToken: Uint8Array;
  readonly heartbeatMs: number;
  readonly maxMessageBytes: number;
  readonly serverTimeMs: number | undefined;
  readonly needFacts: boolean;
  /** States whose latest report the controller holds. */
  readonly knownStates: readonly DesiredStateRef[];
}

const DEFAULT_HEARTBEAT_MS = 15_000;
const HEARTBEAT_MS = { min: 100, max: 300_000 } as const;
const DEFAULT_MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const MIN_MAX_MESSAGE_BYTES = 128 * 1024;
const MAX_SESSION_TOKEN_BYTES = 32;

/** First 16 bytes of the SHA-256 of the serialised facts. */
export function factsDigest(facts: AgentFacts): Uint8Array {
  return createHash('sha256').update(toBinary(AgentFactsSchema, facts)).digest().subarray(0, 16);
}

/** Hello for a target; facts go along only if no controller acknowledged them. `settledSeq` as in CommandDispatcher. */
export function helloMessage(
  target: LinkTarget,
  facts: AgentFacts,
  journal: Journal,
  settledSeq: bigint,
  states: readonly DesiredStateRef[],
  sessions?: readonly SessionStatus[],
): AgentMessage {
  const { linkMemory } = journal;
  const digest = factsDigest(facts);
  const known = linkMemory.acknowledgedFactsDigest === Buffer.from(digest).toString('hex');
  const value = create(HelloSchema, {
    protocolMin: PROTOCOL.min,
    protocolMax: PROTOCOL.max,
    agentId: target.agentId,
    instanceId: target.instanceId,
    bootId: target.bootId,
    sessionToken: fromHex(linkMemory.sessionToken),
    factsDigest: Uint8Array.from(digest),
    ...(!known && { facts }),
    leaderEpoch: target.leaderEpoch,
    lastCommandSeq: settledSeq,
    inFlightCommandIds: journal.unfinished().map((command) => command.id),
    pendingResultIds: journal.pendingReplies().map((reply) => reply.id),
    desiredStates: [...states, ...(sessions === undefined ? [] : [sessionsRef(sessions)])],
  });
  return create(AgentMessageSchema, { message: { case: 'hello', value } });
}

/** Checks a Welcome. Throws `unsupported` for another protocol, `invalid` for values that break the contract. */
export function readWelcome(welcome: Welcome): WelcomeTerms {
  if (welcome.protocol < PROTOCOL.min || welcome.protocol > PROTOCOL.max) {
    throw new LonglineError(
      'unsupported',
      `the controller speaks protocol ${welcome.protocol}; this agent speaks ${PROTOCOL.min} to ${PROTOCOL.max}`,
    );
  }
  if (welcome.sessionToken.length > MAX_SESSION_TOKEN_BYTES) {
    const size = welcome.sessionToken.length;
    throw new LonglineError('invalid', `welcome.session_token has ${size} bytes; at most ${MAX_SESSION_TOKEN_BYTES}`);
  }
  const asked = durationMs(welcome.heartbeatInterval) ?? DEFAULT_HEARTBEAT_MS;
  return {
    controllerId: welcome.controllerId,
    sessionToken: welcome.sessionToken,
    heartbeatMs: Math.min(Math.max(asked, HEARTBEAT_MS.min), HEARTBEAT_MS.max),
    maxMessageBytes: Math.max(welcome.maxMessageBytes || DEFAULT_MAX_MESSAGE_BYTES, MIN_MAX_MESSAGE_BYTES),
    serverTimeMs: timeMs(welcome.serverTime),
    needFacts: welcome.needFacts,
    knownStates: welcome.knownStates,
  };
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'hex'));
}
