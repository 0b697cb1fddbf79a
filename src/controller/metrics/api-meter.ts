// Counts calls of operators by method and code, around everything else that happens to them. Methods are those that are served, so
// that their number is bounded.
import { Code, ConnectError, type Interceptor } from '@connectrpc/connect';
import type { Clock } from '../../core/clock.ts';
import { toLonglineError } from '../../core/errors.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { FRONT_METRICS } from '../../telemetry/metrics/controller-names.ts';
import type { Enrollment } from '../identity/enrollment.ts';

/** To be put before the interceptors that convert errors and authorise. */
export function apiMeter(registry: MetricRegistry, clock: Clock): Interceptor {
  const calls = registry.counter(FRONT_METRICS.calls);
  const seconds = registry.histogram(FRONT_METRICS.callSeconds);
  const inFlight = registry.gauge(FRONT_METRICS.callsInFlight);
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const beganMs = clock.monotonic();
    let isOver = false;
    const over = (code: string) => {
      if (isOver) return;
      isOver = true;
      inFlight.add(-1);
      calls.add(1, method, code);
      if (request.method.methodKind === 'unary') seconds.observe((clock.monotonic() - beganMs) / 1000, method);
    };
    inFlight.add(1);
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: untilOver(response.message, over) };
      over('ok');
      return response;
    } catch (error) {
      over(codeOf(error));
      throw error;
    }
  };
}

async function* untilOver<T>(messages: AsyncIterable<T>, over: (code: string) => void): AsyncGenerator<T> {
  // Whoever reads may leave at any message.
  let code = 'canceled';
  try {
    yield* messages;
    code = 'ok';
  } catch (error) {
    code = codeOf(error);
    throw error;
  } finally {
    over(code);
  }
}

/** "not_found", as Connect writes codes. */
function codeOf(error: unknown): string {
  return Code[ConnectError.from(error).code].replace(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}

/** Enrolments, counted. */
export function meteredEnrollment(
  inner: Pick<Enrollment, 'enroll' | 'renew'>,
  registry: MetricRegistry,
): Pick<Enrollment, 'enroll' | 'renew'> {
  const enrolments = registry.counter(FRONT_METRICS.enrolments);
  const counted = async <T>(what: string, work: Promise<T>): Promise<T> => {
    try {
      const result = await work;
      enrolments.add(1, what, 'succeeded');
      return result;
    } catch (error) {
      enrolments.add(1, what, toLonglineError(error).reason);
      throw error;
    }
  };
  return {
    enroll: async (application) => await counted('enrol', inner.enroll(application)),
    renew: async (agent, request) => await counted('renew', inner.renew(agent, request)),
  };
}
