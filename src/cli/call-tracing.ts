// The trace of a command line: begun here where OTEL_* asks for it, or gone on with where TRACEPARENT names one, and handed to the
// controller with each call. A call that is answered once is a span, a stream is none.
import { Code, ConnectError, type Interceptor } from '@connectrpc/connect';
import type { Command } from 'commander';
import { systemClock } from '../core/clock.ts';
import { silentLogger } from '../core/logger.ts';
import { ATTRIBUTE } from '../core/span-names.ts';
import { noTracer, type Tracer, traced } from '../core/tracer.ts';
import { rpcAttributes, tellAnswer } from '../telemetry/tracing/rpc-spans.ts';
import type { CliIo } from './io.ts';

/** Nobody waits longer for a collector than this, after the command is done. */
const FLUSH_MS = 1000;
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Does `work` in the trace of this command line; its calls take the interceptor. */
export async function withTrace<T>(
  { env }: Pick<CliIo, 'env'>,
  command: Command,
  work: (calls: Interceptor) => Promise<T>,
): Promise<T> {
  const parent = TRACEPARENT.test(env['TRACEPARENT'] ?? '') ? env['TRACEPARENT']! : '';
  if (!Object.keys(env).some((name) => name.startsWith('OTEL_'))) return await work(traceCalls(noTracer, parent));
  const { startTracing } = await import('../telemetry/tracing/tracing.ts');
  const { default: manifest } = await import('../../package.json', { with: { type: 'json' } });
  const started = { environment: env, service: 'longline', version: manifest.version, flushMs: FLUSH_MS };
  await using tracing = await startTracing({ ...started, clock: systemClock, log: silentLogger });
  const { tracer } = tracing;
  return await traced(tracer, nameOf(command), { parent }, () => work(traceCalls(tracer, parent)));
}

function traceCalls(tracer: Tracer, parent: string): Interceptor {
  return (next) => async (request) => {
    const current = tracer.current() || parent;
    if (tracer === noTracer || request.method.methodKind !== 'unary') {
      if (current !== '') request.header.set('traceparent', current);
      return await next(request);
    }
    const method = `${request.service.typeName}/${request.method.name}`;
    const { hostname, port } = new URL(request.url);
    const at = { [ATTRIBUTE.serverAddress]: hostname, [ATTRIBUTE.serverPort]: Number(port || 443) };
    const span = tracer.start(method, { kind: 'client', attributes: { ...rpcAttributes('grpc', method), ...at } });
    request.header.set('traceparent', span.traceparent);
    try {
      const response = await span.run(() => next(request));
      tellAnswer(span, { side: 'client', status: 'OK' });
      return response;
    } catch (error) {
      const name = Code[ConnectError.from(error).code].replace(/(?<=[a-z])(?=[A-Z])/g, '_');
      tellAnswer(span, { side: 'client', status: name.toUpperCase(), error });
      throw error;
    } finally {
      span.end();
    }
  };
}

/** "longline job run". */
function nameOf(command: Command): string {
  const names: string[] = [];
  for (let one: Command | null = command; one !== null; one = one.parent) names.unshift(one.name());
  return names.join(' ');
}
