// One call and its end, where a controller takes it and gives no answer.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Http2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { EnrollmentService } from '#gen/longline/link/v1/enrollment_pb.js';
import { callOnce } from '../../src/link/unary-call.ts';

test('a controller that gives no answer in time may be asked again: an agent that enrols goes on trying', async () => {
  const sessions = new Set<Http2Session>();
  const server = createServer((request) => void request.resume());
  server.on('session', (session) => sessions.add(session));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    const target = {
      url: `http://127.0.0.1:${port}`,
      credentials: { kind: 'api_key', apiKey: 'a'.repeat(64), trustedCertificates: undefined },
    } as const;
    const bounds = { limitMs: 300, signal: new AbortController().signal };
    const request = { certificateRequest: new Uint8Array() };
    await assert.rejects(callOnce(EnrollmentService.method.renew, request, target, bounds), {
      reason: 'late',
      retryable: true,
    });
  } finally {
    for (const session of sessions) session.destroy();
    server.close();
  }
});
