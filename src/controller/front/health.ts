// grpc.health.v1 for the operators' stack: what is served, and whether it can be used now.
import type { ServiceImpl } from '@connectrpc/connect';
import { type Health, HealthCheckResponse_ServingStatus as Status } from '#gen/health/v1/health_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type { HealthState } from '../../core/health-state.ts';

const statusOf = (serving: boolean) => (serving ? Status.SERVING : Status.NOT_SERVING);

/** The implementation of grpc.health.v1.Health. */
export function healthService(state: HealthState): ServiceImpl<typeof Health> {
  return {
    check({ service }) {
      const serving = state.status(service);
      if (serving === undefined) {
        throw new LonglineError('not_found', `service: ${JSON.stringify(service.slice(0, 200))} isn't served here`);
      }
      return { status: statusOf(serving) };
    },
    async *watch({ service }, { signal }) {
      for await (const serving of state.watch(service, signal)) {
        yield { status: serving === undefined ? Status.SERVICE_UNKNOWN : statusOf(serving) };
      }
    },
    list() {
      const statuses: Record<string, { status: Status }> = {};
      for (const [service, serving] of state.entries()) statuses[service] = { status: statusOf(serving) };
      return { statuses };
    },
  };
}
