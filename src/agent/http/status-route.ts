// /status: everything of longline.local.v1.GetStatus in ProtoJSON, with "health" as /healthz tells it on the host, and "artifacts":
// [{"program", "artifact", "version", "expireTime", "ttlSecs"}] of the eBPF programs that are applied.
import { create, toJson } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { GetStatusResponseSchema } from '#gen/longline/local/v1/local_pb.js';
import type { ProgramStatus } from '#gen/longline/v1/program_pb.js';
import type { AgentHealth } from '../health/agent-health.ts';
import { healthJson } from '../health/health-routes.ts';
import type { LocalView, ProgramCalls } from '../local/local-server.ts';
import { type HttpRoute, jsonAnswer } from './http-server.ts';

/** What the route looks at. */
export interface StatusRouteParts {
  readonly view: Pick<LocalView, 'status'>;
  readonly programs: Pick<ProgramCalls, 'list'>;
  readonly health: Pick<AgentHealth, 'report'>;
  readonly now: () => number;
}

/** Not open: it says what the host is for. */
export function statusRoute({ view, programs, health, now }: StatusRouteParts): HttpRoute {
  return {
    path: '/status',
    open: false,
    answer: async () => {
      const status = create(GetStatusResponseSchema, await view.status());
      const applied = ((await programs.list()).programs ?? []).flatMap(({ status: program }) =>
        artifact(program, now()),
      );
      const told = toJson(GetStatusResponseSchema, status, { alwaysEmitImplicit: true }) as Record<string, unknown>;
      return jsonAnswer(200, { ...told, health: healthJson(await health.report()), artifacts: applied });
    },
  };
}

function artifact(program: ProgramStatus | undefined, nowMs: number): Record<string, unknown>[] {
  if (program?.current === undefined) return [];
  const { name, current, expireTime } = program;
  const expiresAtMs = expireTime === undefined ? undefined : timestampMs(expireTime);
  const { artifact: digest, version } = current;
  return [
    {
      program: name,
      artifact: digest,
      version,
      expireTime: expiresAtMs === undefined ? null : new Date(expiresAtMs).toISOString(),
      ttlSecs: expiresAtMs === undefined ? null : Math.max(0, Math.round((expiresAtMs - nowMs) / 1000)),
    },
  ];
}
