// What the HTTP API tells while no agent of the process serves: health, standing and version as ever; figures where there is an election
// to tell of, for a process that merely starts has none that mean anything; and of all else why it can't be had.
import type { Clock } from '../../core/clock.ts';
import { toLonglineError } from '../../core/errors.ts';
import { healthRoutes } from '../health/health-routes.ts';
import { versionRoute } from '../http/agent-routes.ts';
import { type HttpAnswer, type HttpRoute, jsonAnswer } from '../http/http-server.ts';
import { statusRoute } from '../http/status-route.ts';
import type { Waiting } from './waiting.ts';

/** Paths that only an agent that serves can answer. */
const ELSEWHERE = ['/programs', '/rollbacks', '/telemetry'];

/** All of them. `figures` are those of the process. */
export function waitingRoutes(
  waiting: Waiting,
  { agentId, clock, figures }: { readonly agentId: string; readonly clock: Clock; readonly figures: HttpRoute },
): readonly HttpRoute[] {
  const health = { report: () => waiting.health.report() };
  return [
    ...healthRoutes({ health, networks: async () => [], clock, leadership: () => waiting.leadership?.() }),
    statusRoute({ view: waiting.view, programs: { list: async () => ({}) }, health, now: () => clock.now() }),
    versionRoute(agentId),
    ...ELSEWHERE.map((path) => ({ path, open: false, answer: () => refusal(waiting) })),
    {
      ...figures,
      answer: async (ask) => {
        if (waiting.leadership !== undefined) return await figures.answer(ask);
        const body = `${waiting.unready ?? 'the agent is starting'}; its figures are told once it works\n`;
        return { status: 503, type: 'text/plain; charset=utf-8', body };
      },
    },
  ];
}

async function refusal({ refuse }: Waiting): Promise<HttpAnswer> {
  return await refuse().catch((error: unknown) => jsonAnswer(503, { reason: toLonglineError(error).message }));
}
