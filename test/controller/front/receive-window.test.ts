import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { widenReceiveWindows } from '../../../src/controller/front/receive-window.ts';
import type { LonglineError } from '../../../src/core/errors.ts';

test('a client is told the wide windows, of streams and of the session', async () => {
  const server = new Server({ 'grpc.max_concurrent_streams': 7 });
  const injector = widenReceiveWindows(server, 300_000, () =>
    server.createConnectionInjector(ServerCredentials.createInsecure()),
  );
  const listener = createServer((socket) => injector.injectConnection(socket)).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const client = connectHttp2(`http://127.0.0.1:${(listener.address() as AddressInfo).port}`);
  try {
    const [settings] = await once(client, 'remoteSettings');
    assert.equal(settings.initialWindowSize, 300_000);
    assert.equal(settings.maxConcurrentStreams, 7, 'what was set before stays');
    // The session's window comes as a WINDOW_UPDATE after the settings; a PING behind it tells when it was read.
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    client.ping((error) => (error ? reject(error) : resolve()));
    await promise;
    assert.equal(client.state.remoteWindowSize, 600_000);
  } finally {
    client.destroy();
    listener.close();
    injector.destroy();
    server.forceShutdown();
  }
});

test('a grpc-js with other internals is refused, not silently slow', () => {
  const stranger = {} as Server;
  assert.throws(
    () => widenReceiveWindows(stranger, 1, () => undefined),
    (error: LonglineError) => error.reason === 'internal' && /internals/.test(error.message),
  );
});
