// Health over HTTP, for probes and people.
//   /healthz  200 while no check has failed, else 503: {"status": "ok" | "degraded" | "failed", "checks": [{"name", "state", …}]}
//   /livez    200, or 503 if only a restart helps: the tasks of the agent don't get on. A dead engine or a full disk is no reason
//   /readyz   200 once the agent takes work and was linked, and until it stops, else 503: {"ready", "reason"}
// Anybody who reaches the port is told of each check whether it is well; why it isn't, what mends it and the figures of networks are
// told on the host, or to whoever shows the token.
import type { NetworkView } from '../../capabilities/network/status.ts';
import type { Clock } from '../../core/clock.ts';
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
  readonly clock: Clock;
}

/** The three routes. */
export function healthRoutes({ health, networks, clock }: HealthRoutesParts): readonly HttpRoute[] {
  return [
    {
      path: '/healthz',
      open: true,
      answer: async ({ trusted }) => {
        const { state, checks } = await health.report();
        const body = { status: state, checks: checks.map(trusted ? fullCheck : briefCheck) };
        if (!trusted) return jsonAnswer(httpStatus(state), body);
        const nowMs = clock.now();
        return jsonAnswer(httpStatus(state), {
          ...body,
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
        if (unready === undefined) return jsonAnswer(200, { ready: true });
        return jsonAnswer(503, { ready: false, reason: unready });
      },
    },
  ];
}

/** A report as JSON, all of it. */
export function healthJson({ state, checks, unready }: HealthReport): Record<string, unknown> {
  return { status: state, ready: unready === undefined, reason: unready ?? '', checks: checks.map(fullCheck) };
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
