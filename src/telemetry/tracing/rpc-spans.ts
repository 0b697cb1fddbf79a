// What spans of calls have in common, over whichever stack they come, by the semantic conventions for RPCs.
import { ATTRIBUTE } from '../../core/span-names.ts';
import type { Span } from '../../core/tracer.ts';

const READ = /^(Get|List|Wait|Watch|Tail|Read|Find|Check|Explain)/;

/** By the conventions, what the server is to blame for; the rest is its caller's. */
const SERVER_FAULTS: ReadonlySet<string> = new Set([
  'unknown',
  'deadline_exceeded',
  'unimplemented',
  'internal',
  'unavailable',
  'data_loss',
]);

/** True for methods that change nothing: those get a span only within the trace of their caller. */
export function isRead(methodName: string): boolean {
  return READ.test(methodName);
}

/** Attributes of a call from its start. `method` is "package.Service/Method". */
export function rpcAttributes(system: 'grpc' | 'connectrpc', method: string): Record<string, string> {
  return { [ATTRIBUTE.rpcSystem]: system, [ATTRIBUTE.rpcMethod]: method };
}

/** How a call was answered: the name of its status, in the form that its system has, and the error if that isn't OK. */
export interface RpcAnswer {
  readonly side: 'server' | 'client';
  readonly status: string;
  readonly error?: unknown;
}

/** Says on the span of a call how it was answered. */
export function tellAnswer(span: Span, { side, status, error }: RpcAnswer): void {
  span.set({ [ATTRIBUTE.rpcStatus]: status });
  if (error === undefined) return;
  span.set({ [ATTRIBUTE.errorType]: status });
  if (side === 'client' || SERVER_FAULTS.has(status.toLowerCase())) span.fail(error, status);
}
