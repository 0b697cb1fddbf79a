// Spans of calls over grpc-js, for its clients and servers: of those that ask once, and end. Streams that both sides write to get none:
// they go on as long as an agent does, and what goes through them is traced by message. OpenTelemetry's own instrumentation can't be
// had here: docs/tracing.md says why. Interceptors fail no call, and where nothing is traced there should be none.
import {
  InterceptingCall,
  type Interceptor,
  ServerInterceptingCall,
  type ServerInterceptor,
  status as Status,
  type StatusObject,
} from '@grpc/grpc-js';
import { ATTRIBUTE } from '../../core/span-names.ts';
import { noSpan, noTracer, type Span, type Tracer } from '../../core/tracer.ts';
import { isRead, rpcAttributes, tellAnswer } from './rpc-spans.ts';

/** For the calls of a client, below the span that is current when one is made; the server learns of it. None where nothing is traced. */
export function tracedClient(tracer: Tracer, address: string): Interceptor[] {
  if (tracer === noTracer) return [];
  const { host, port } = addressOf(address);
  const at = { [ATTRIBUTE.serverAddress]: host, [ATTRIBUTE.serverPort]: port };
  return [
    (options, nextCall) => {
      const method = options.method_definition.path.slice(1);
      const span = tracer.start(method, { kind: 'client', attributes: { ...rpcAttributes('grpc', method), ...at } });
      return new InterceptingCall(nextCall(options), {
        start: (metadata, _, next) => {
          if (span.traceparent !== '') metadata.set('traceparent', span.traceparent);
          next(metadata, {
            onReceiveStatus: (status, nextStatus) => {
              answered(span, 'client', status);
              nextStatus(status);
            },
          });
        },
      });
    },
  ];
}

/** For a server: goes on with the caller's trace. Handlers run within the span. None where nothing is traced. */
export function tracedServer(tracer: Tracer): ServerInterceptor[] {
  if (tracer === noTracer) return [];
  return [
    ({ path, requestStream }, call) => {
      const method = path.slice(1);
      if (requestStream || !method.startsWith('longline.')) return new ServerInterceptingCall(call);
      let span = noSpan;
      const ended = (status: Pick<StatusObject, 'code' | 'details'>) => {
        answered(span, 'server', status);
        span = noSpan;
      };
      return new ServerInterceptingCall(call, {
        start: (next) =>
          next({
            onReceiveMetadata: (metadata, nextMetadata) => {
              const parent = String(metadata.get('traceparent')[0] ?? '');
              const name = method.slice(method.indexOf('/') + 1);
              if (parent !== '' || !isRead(name)) {
                span = tracer.start(method, { parent, kind: 'server', attributes: rpcAttributes('grpc', method) });
              }
              nextMetadata(metadata);
            },
            // The request is there: the handler is called.
            onReceiveHalfClose: (nextHalfClose) => span.run(nextHalfClose),
            onCancel: () => ended({ code: Status.CANCELLED, details: 'the caller left' }),
          }),
        sendStatus: (status, next) => {
          ended({ code: status.code ?? Status.OK, details: status.details ?? '' });
          next(status);
        },
      });
    },
  ];
}

function answered(span: Span, side: 'client' | 'server', { code, details }: Pick<StatusObject, 'code' | 'details'>) {
  const status = Status[code] ?? String(code);
  tellAnswer(span, { side, status, ...(code === Status.OK ? {} : { error: details }) });
  span.end();
}

/** Of "host:port", or of "unix:path". */
function addressOf(address: string): { readonly host: string; readonly port: number | undefined } {
  const [, host, port] = /^\[?([^\]]*?)\]?:(\d{1,5})$/.exec(address) ?? [];
  if (host !== undefined) return { host, port: Number(port) };
  return { host: address.replace(/^unix:/, ''), port: undefined };
}
