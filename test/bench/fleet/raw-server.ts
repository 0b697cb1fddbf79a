// The peer of the fleet benches: node:http2 with TLS and nothing behind it. It answers each call with a fixed Welcome, and
// writes one fixed message to all when told; it stores nothing and knows nobody.
import { readFileSync } from 'node:fs';
import { createSecureServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Deframer } from './light-agent.ts';

const [credentialsPath, authorityPath, welcome, command, ticketKeys, port] = process.argv.slice(2);
const credentials = readFileSync(credentialsPath!, 'utf8');
const controls = new Set<ServerHttp2Stream>();
let answers = 0;

const server = createSecureServer({
  key: credentials,
  cert: credentials.slice(credentials.indexOf('-----BEGIN CERTIFICATE-----')),
  ca: readFileSync(authorityPath!, 'utf8'),
  requestCert: true,
  rejectUnauthorized: true,
  ALPNProtocols: ['h2'],
  // Kept over restarts, as the controller keeps its own.
  ticketKeys: Buffer.from(ticketKeys!, 'hex'),
  sessionIdContext: 'raw-peer',
});
server.on('sessionError', () => undefined);
server.on('stream', (stream: ServerHttp2Stream) => {
  stream.on('error', () => undefined);
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
  const deframer = new Deframer();
  let introduced = false;
  stream.on('data', (chunk: Buffer) => {
    for (const message of deframer.take(chunk)) {
      // Field 2 of AgentMessage is Received.
      if (message[0] === (2 << 3) + 2) answers += 1;
      if (!introduced) stream.write(Buffer.from(welcome!, 'hex'));
      introduced = true;
    }
  });
  controls.add(stream);
  stream.on('close', () => controls.delete(stream));
});
server.listen({ host: '127.0.0.1', port: Number(port), backlog: 4096 }, () => {
  process.send?.({ port: (server.address() as AddressInfo).port });
});
process.on('message', () => {
  const startMs = Date.now();
  answers = 0;
  const bytes = Buffer.from(command!, 'hex');
  for (const stream of controls) stream.write(bytes);
  const timer = setInterval(() => {
    if (answers < controls.size) return;
    clearInterval(timer);
    process.send?.({ fanOutMs: Date.now() - startMs });
  }, 2);
});
process.on('disconnect', () => process.exit(0));
