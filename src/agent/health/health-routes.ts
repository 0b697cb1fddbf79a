// Health over HTTP, for probes and people.
//   /healthz  200 while no check has failed, else 503: {"status": "ok" | "degraded" | "failed", "checks": [{"name", "state", …}]}
//   /livez    200, or 503 if only a restart helps: the tasks of the agent don't get on. A dead engine or a full disk is no reason
//   /readyz   200 once the agent takes work and was linked, and until it stops; of a standby while it can take over. Else 503:
//             {"ready", "reason"}, and "role" where there are replicas
//   /leader   200 once the agent is ready and no other replica leads, else 503: {"leads", "reason"}
// Anybody who reaches the port is told of each check whether it is well; why it isn't, what mends it and the figures of networks are
// told on the host, or to whoever shows the token.
import type { NetworkView } from '../../capabilities/network/status.ts';
import type { Clock } from '../../core/clock.ts';
import type { LeadershipView } from '../ha/leadership.ts';
import { type HttpRoute, jsonAnswer } from '../http/http-server.ts';
import { networkJson } from '../network/status-view.ts';
import type { AgentHealth, CheckReport, HealthReport } from './agent-health.ts';
import type { CheckState } from './check.ts';

/** Checks that tell whether the process itself gets on. */
const OF_THE_PROCESS: ReadonlySet<string> = new Set(['event_loop', 'tasks']);

/** What the routes look at. */
export interface HealthRoutesParts {
  readonly health: Pick<AgentHealth, 'report'>;
  /** Networks as they are now. */
  readonly networks: () => Promise<readonly NetworkView[]>;
  /** Undefined, or giving that, where there is no election. */
  readonly leadership?: (() => LeadershipView | undefined) | undefined;
  readonly clock: Clock;
}

/** The four routes. */
export function healthRoutes({ health, networks, clock, leadership }: HealthRoutesParts): readonly HttpRoute[] {
  const view = () => leadership?.();
  const role = () => {
    const seen = view();
    return seen === undefined ? {} : { role: seen.role };
  };
  return [
    {
      path: '/healthz',
      open: true,
      answer: async ({ trusted }) => {
        const { state, checks } = await health.report();
        const body = { status: state, ...role(), checks: checks.map(trusted ? fullCheck : briefCheck) };
        if (!trusted) return jsonAnswer(httpStatus(state), body);
        const nowMs = clock.now();
        const seen = view();
        return jsonAnswer(httpStatus(state), {
          ...body,
          ...(seen === undefined ? {} : { leadership: leadershipJson(seen, nowMs) }),
          networks: (await networks()).map((view) => traffic(view, nowMs)),
        });
      },
    },
    {
      path: '/livez',
      open: true,
      answer: async () => {
        const { checks } = await health.report();
        const stuck = checks.find(({ name, state }) => OF_THE_PROCESS.has(name) && state === 'failed');
        return jsonAnswer(stuck === undefined ? 200 : 503, { status: stuck === undefined ? 'ok' : 'failed' });
      },
    },
    {
      path: '/readyz',
      open: true,
      answer: async () => {
        const { unready } = await health.report();
        if (unready === undefined) return jsonAnswer(200, { ready: true, ...role() });
        return jsonAnswer(503, { ready: false, ...role(), reason: unready });
      },
    },
    {
      path: '/leader',
      open: true,
      answer: async () => {
        const { unready } = await health.report();
        const standsBy = view()?.role === 'standby' ? 'this replica stands by' : undefined;
        const reason = standsBy ?? unready;
        if (reason === undefined) return jsonAnswer(200, { leads: true });
        return jsonAnswer(503, { leads: false, reason });
      },
    },
  ];
}

/** A report as JSON, all of it. */
export function healthJson({ state, checks, unready }: HealthReport): Record<string, unknown> {
  return { status: state, ready: unready === undefined, reason: unready ?? '', checks: checks.map(fullCheck) };
}

/** Who leads, since when this replica has its role, and why the lock can't be asked, if so. */
function leadershipJson(view: LeadershipView, nowMs: number): Record<string, unknown> {
  const { role, roleMs, epoch, leader, backend, problem } = view;
  const sinceTime = new Date(nowMs - roleMs).toISOString();
  return { role, sinceTime, epoch: String(epoch), leader, backend, problem };
}

function httpStatus(state: CheckState): number {
  return state === 'failed' ? 503 : 200;
}

function briefCheck({ name, state }: CheckReport): Record<string, unknown> {
  return { name, state };
}

function fullCheck({ name, state, reason, mend, sinceMs }: CheckReport): Record<string, unknown> {
  return { name, state, reason, mend, sinceTime: new Date(sinceMs).toISOString() };
}

/** A network without its peers, of which there may be tens of thousands. */
function traffic(view: NetworkView, nowMs: number): Record<string, unknown> {
  const {
    name,
    state,
    interface: device,
    handshakeAgeSecs,
    receivedBytes,
    sentBytes,
    handshakes,
    counts,
  } = networkJson(view, nowMs);
  return { name, state, interface: device, handshakeAgeSecs, receivedBytes, sentBytes, handshakes, peers: counts };
}
