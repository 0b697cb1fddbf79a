// A health report as longline.local.v1 tells it.
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { HealthCheckSchema, HealthState } from '#gen/longline/local/v1/local_pb.js';
import type { HealthReport } from './agent-health.ts';
import type { CheckState } from './check.ts';

const STATES: Readonly<Record<CheckState, HealthState>> = {
  ok: HealthState.OK,
  degraded: HealthState.DEGRADED,
  failed: HealthState.FAILED,
};

/** The answer to GetHealth. */
export function healthMessage(report: HealthReport) {
  const checks = report.checks.map(({ name, state, reason, mend, sinceMs }) =>
    create(HealthCheckSchema, { name, state: STATES[state], reason, mend, sinceTime: timestampFromMs(sinceMs) }),
  );
  const { unready } = report;
  return { state: STATES[report.state], ready: unready === undefined, notReadyReason: unready ?? '', checks };
}
