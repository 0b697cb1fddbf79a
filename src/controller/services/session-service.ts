// SessionService for Connect, but for its tunnels: it checks, stores and reads; what carries a command to its agent is woken
// over the bus, and what agents say comes through the store. Every stream ends when its caller leaves.
import { create } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import type { SessionFilter, SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import { SessionActionSchema } from '#gen/longline/v1/session_pb.js';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { labelViolations, pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { type ActionRequest, actOnSession, checkedTier } from './session-actions.ts';
import { tailSession } from './session-logs.ts';
import { currentSession, findSession, SessionViewer } from './session-lookup.ts';
import { submitSession } from './session-submission.ts';
import type { SessionUsageCache } from './session-usage.ts';
import { followOperation, type SessionConditions, SessionWatch } from './session-watch.ts';
import { contextOf } from './submission-context.ts';
import { templateMethods } from './template-methods.ts';

const MAX_FILTERED_IDS = 1000;

/** All methods but those of tunnels. */
export type SessionMethods = Omit<ServiceImpl<typeof SessionService>, 'tunnel' | 'createTunnelTicket'>;

function conditionsOf(filter: SessionFilter | undefined): SessionConditions {
  const { agentId = '', states = [], matchLabels = {}, owner = '', template = '' } = filter ?? {};
  const { sessionIds = [], live = false } = filter ?? {};
  const violations: FieldViolation[] = [...labelViolations(matchLabels, 'filter.match_labels')];
  if (sessionIds.length > MAX_FILTERED_IDS) {
    const description = `has ${sessionIds.length} entries; at most ${MAX_FILTERED_IDS} are allowed`;
    violations.push({ field: 'filter.session_ids', description });
  }
  if (violations.length > 0) throw invalid(violations);
  return { agentId, states, matchLabels, owner, template, sessionIds, live };
}

type StopFields = Pick<ActionRequest, 'reason' | 'wait' | 'signed' | 'requestId' | 'sessionId'>;

/** What all three actions have in common. */
function common({ sessionId, reason, wait, signed, requestId }: StopFields): StopFields {
  return { sessionId, reason, wait, signed, requestId };
}

type ActionMethods = Pick<SessionMethods, 'stopSession' | 'hibernateSession' | 'wakeSession'>;

function actionMethods(needs: ServiceDependencies): ActionMethods {
  return {
    async stopSession(request, context) {
      const { sessionId, grace, removeVolumes, reason } = request;
      const asked: ActionRequest = {
        ...common(request as StopFields),
        ttl: request.ttl,
        verb: 'stop',
        afterEnd: removeVolumes || request.signed !== undefined,
        action: (generation) => {
          const stop = { sessionId, generation, removeVolumes, reason, ...(grace === undefined ? {} : { grace }) };
          return create(SessionActionSchema, { action: { case: 'stop', value: stop } });
        },
      };
      return { session: await actOnSession(needs, asked, contextOf(context), context.signal) };
    },

    async hibernateSession(request, context) {
      const { sessionId, reason } = request;
      const tier = checkedTier(request.tier);
      const asked: ActionRequest = {
        ...common(request as StopFields),
        ttl: undefined,
        verb: 'hibernate',
        afterEnd: false,
        action: (generation) =>
          create(SessionActionSchema, {
            action: { case: 'hibernate', value: { sessionId, generation, tier, reason } },
          }),
      };
      return { session: await actOnSession(needs, asked, contextOf(context), context.signal) };
    },

    async wakeSession(request, context) {
      const { sessionId, reason } = request;
      const asked: ActionRequest = {
        ...common(request as StopFields),
        ttl: undefined,
        verb: 'wake',
        afterEnd: false,
        action: (generation) =>
          create(SessionActionSchema, { action: { case: 'wake', value: { sessionId, generation, reason } } }),
      };
      return { session: await actOnSession(needs, asked, contextOf(context), context.signal) };
    },
  };
}

type ReadMethods = Pick<
  SessionMethods,
  'getSession' | 'listSessions' | 'watchSessions' | 'getSessionUsage' | 'listSessionUsage' | 'tailSessionLogs'
>;

function readMethods(needs: ServiceDependencies, usage: SessionUsageCache): ReadMethods {
  const { store, clock } = needs;
  return {
    async getSession({ sessionId }) {
      return { session: await currentSession(store, sessionId) };
    },

    async listSessions(request) {
      const conditions = conditionsOf(request.filter);
      const { items, nextPageToken } = await store.sessions.list({ ...conditions, ...pageQuery(request) });
      const viewer = new SessionViewer(store);
      return { sessions: await Promise.all(items.map((session) => viewer.view(session))), nextPageToken };
    },

    async *watchSessions({ filter }, { signal }) {
      for await (const change of new SessionWatch(needs, conditionsOf(filter)).changes(signal)) yield { change };
    },

    async getSessionUsage({ sessionId, since }) {
      const { agentId } = await findSession(store, sessionId);
      const afterMs = since === undefined ? -1 : timestampMs(since);
      return { samples: [...usage.samples(agentId, sessionId, afterMs)] };
    },

    async listSessionUsage(request) {
      const conditions = conditionsOf(request.filter);
      const { items, nextPageToken } = await store.sessions.list({ ...conditions, ...pageQuery(request) });
      const sessions = items.map(({ id, agentId, state }) => {
        const sample = usage.latest(agentId, id, clock.now());
        return { sessionId: id, agentId, state, ...(sample === undefined ? {} : { sample }) };
      });
      return { sessions, nextPageToken };
    },

    async *tailSessionLogs(request, { signal }) {
      yield* tailSession(needs, request, signal);
    },
  };
}

/** SessionService over store, bus, logs and recent figures. */
export function createSessionMethods(needs: ServiceDependencies, usage: SessionUsageCache): SessionMethods {
  return {
    async *startSession({ session }, context) {
      const submitted = await submitSession(needs, session, contextOf(context));
      yield { event: { case: 'submitted', value: submitted } };
      let last = submitted;
      for await (const changed of followOperation(needs, submitted, context.signal)) {
        last = changed;
        yield { event: { case: 'changed', value: changed } };
      }
      if (!context.signal.aborted) yield { event: { case: 'finished', value: last } };
    },

    async submitSession({ session }, context) {
      return { session: await submitSession(needs, session, contextOf(context)) };
    },

    ...actionMethods(needs),
    ...readMethods(needs, usage),
    ...templateMethods(needs),
  };
}
