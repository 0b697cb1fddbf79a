// Spans of what operators ask: one for each call that may lead to a command, by the semantic conventions for RPCs. It goes on with
// the caller's trace, and what handlers read as the caller's trace is this span. Streams get none, but for the beginning of those
// that ask for something: their span ends with the first answer. Reads get one only within the trace of their caller.
import { Code, ConnectError, type Interceptor, type UnaryRequest } from '@connectrpc/connect';
import { noSpan, type Span, type Tracer } from '../../core/tracer.ts';
import { isRead, rpcAttributes, tellAnswer } from '../../telemetry/tracing/rpc-spans.ts';

/** Streams that ask for something to be done. */
const ASKING_STREAMS: ReadonlySet<string> = new Set(['RunJob', 'StartSession', 'Tunnel']);
type Request = Pick<UnaryRequest, 'header' | 'method' | 'service' | 'stream'> | Parameters<ReturnType<Interceptor>>[0];

/** Spans calls. The outermost interceptor, so that it sees how each was answered. */
export function traceCalls(tracer: Tracer): Interceptor {
  return (next) => async (request) => {
    if (!isTraced(request)) return await next(request);
    const isGrpc = request.header.get('content-type')?.startsWith('application/grpc') ?? false;
    const method = `${request.service.typeName}/${request.method.name}`;
    const attributes = rpcAttributes(isGrpc ? 'grpc' : 'connectrpc', method);
    const parent = request.header.get('traceparent') ?? '';
    const span = tracer.start(method, { parent, kind: 'server', attributes });
    if (span === noSpan) return await next(request);
    request.header.set('traceparent', span.traceparent);
    const answered = (error?: unknown) => {
      tellStatus(span, error, isGrpc);
      span.end();
    };
    try {
      const response = await span.run(() => next(request));
      if (response.stream) return { ...response, message: untilFirst(response.message, span, answered) };
      answered();
      return response;
    } catch (error) {
      answered(error);
      throw error;
    }
  };
}

function isTraced({ header, method, service }: Request): boolean {
  if (!service.typeName.startsWith('longline.')) return false;
  if (method.methodKind !== 'unary') return ASKING_STREAMS.has(method.name);
  return !isRead(method.name) || header.has('traceparent');
}

function tellStatus(span: Span, error: unknown, isGrpc: boolean): void {
  if (error === undefined) {
    // Connect has no name for it.
    if (isGrpc) tellAnswer(span, { side: 'server', status: 'OK' });
    return;
  }
  const name = Code[ConnectError.from(error).code].replace(/(?<=[a-z])(?=[A-Z])/g, '_');
  tellAnswer(span, { side: 'server', status: isGrpc ? name.toUpperCase() : name.toLowerCase(), error });
}

async function* untilFirst<T>(
  messages: AsyncIterable<T>,
  span: Span,
  answered: (error?: unknown) => void,
): AsyncGenerator<T, void, undefined> {
  const iterator: AsyncIterator<T> = messages[Symbol.asyncIterator]();
  let over = false;
  const once = (error?: unknown) => {
    if (!over) answered(error);
    over = true;
  };
  try {
    for (;;) {
      const next = over ? await iterator.next() : await span.run(() => iterator.next());
      once();
      if (next.done) return;
      yield next.value;
    }
  } catch (error) {
    once(error);
    throw error;
  } finally {
    once();
    await iterator.return?.();
  }
}
