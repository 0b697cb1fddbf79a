// HTTP/2 receive windows of a grpc-js server. Its client has an option for them, its server has none and stays at 64 KiB,
// which holds an agent's output to 64 KiB a round trip. Two of its fields are used for that: they are not public, so a
// version that lacks them is refused at start instead of being slow in secret (the version is pinned in package.json).
import type { Http2Server, ServerHttp2Session, Settings } from 'node:http2';
import type { Server } from '@grpc/grpc-js';
import { LonglineError } from '../../core/errors.ts';

interface ServerInternals {
  readonly commonServerOptions: { settings?: Settings };
  readonly http2Servers: Map<Http2Server, unknown>;
}

/** Runs `create`, which makes HTTP/2 servers of this grpc-js server, and gives their streams and sessions such a window. */
export function widenReceiveWindows<T>(server: Server, windowBytes: number, create: () => T): T {
  const internals = server as unknown as Partial<ServerInternals>;
  const { commonServerOptions, http2Servers } = internals;
  if (commonServerOptions === undefined || !(http2Servers instanceof Map)) {
    throw new LonglineError(
      'internal',
      'this version of @grpc/grpc-js has other internals than the one that is pinned',
    );
  }
  commonServerOptions.settings = { ...commonServerOptions.settings, initialWindowSize: windowBytes };
  const before = new Set(http2Servers.keys());
  const created = create();
  for (const http2Server of http2Servers.keys()) {
    if (before.has(http2Server)) continue;
    // A stream's window alone changes nothing: all streams of a session share the session's.
    http2Server.on('session', (session: ServerHttp2Session) => session.setLocalWindowSize(2 * windowBytes));
  }
  return created;
}
