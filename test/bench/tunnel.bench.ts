// A tunnel through controller and agent beside a direct TCP connection to the same port: how much goes through, how long a
// byte takes there and back. Everything runs on loopback in two processes at most, so what is measured is our own cost.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { RunningCommand } from '../fixtures/command.ts';
import { SESSION, TunnelFleet } from '../fixtures/tunnel-fleet.ts';
import { type Bench, type BenchRow, median } from './bench.ts';

interface Setup extends AsyncDisposable {
  /** Sends what it was asked for: eight bytes say how many. */
  readonly source: number;
  /** Sends everything back. */
  readonly echo: number;
  /** Local ports of `longline session tunnel`, in the same order. */
  readonly tunnels: { readonly source: number; readonly echo: number };
}

async function listen(serve: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

function give(socket: Socket): void {
  socket.once('data', (asked: Buffer) => {
    let left = Number(asked.readBigUInt64BE());
    const piece = Buffer.alloc(64 * 1024);
    const more = () => {
      while (left > 0) {
        const size = Math.min(left, piece.length);
        left -= size;
        if (!socket.write(piece.subarray(0, size))) return;
      }
      socket.end();
    };
    socket.on('drain', more);
    more();
  });
}

async function setUp(): Promise<Setup> {
  await using stack = new AsyncDisposableStack();
  const source = await listen(give);
  const echo = await listen((socket) => socket.pipe(socket));
  stack.defer(() => void source.server.close());
  stack.defer(() => void echo.server.close());
  const fleet = stack.use(await TunnelFleet.start({ ports: [source.port, echo.port] }));
  const env = { ...process.env, LONGLINE_CONTEXT: fleet.controller.contextPath };
  const tunnel = async (port: number) => {
    const command = stack.use(new RunningCommand(['session', 'tunnel', SESSION, String(port)], env));
    return Number(await command.until('the port', () => /:(\d+)\n/.exec(command.stdout)?.[1]));
  };
  const tunnels = { source: await tunnel(source.port), echo: await tunnel(echo.port) };
  const owned = stack.move();
  return {
    source: source.port,
    echo: echo.port,
    tunnels,
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}

/** MB/s of one connection. */
async function throughput(port: number, bytes: number): Promise<number> {
  const socket = connect({ port, host: '127.0.0.1' });
  const asked = Buffer.alloc(8);
  asked.writeBigUInt64BE(BigInt(bytes));
  socket.write(asked);
  let received = 0;
  let first = 0;
  socket.on('data', (data: Buffer) => {
    if (received === 0) first = performance.now();
    received += data.length;
  });
  await once(socket, 'end');
  if (received !== bytes) throw new Error(`${received} of ${bytes} bytes came`);
  return bytes / 1e3 / (performance.now() - first);
}

/** Milliseconds there and back, by one connection after the other's answer. */
async function roundTrips(port: number, count: number): Promise<number[]> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  await once(socket, 'connect');
  const samples: number[] = [];
  for (let index = -20; index < count; index++) {
    const startMs = performance.now();
    socket.write('x');
    await once(socket, 'data');
    if (index >= 0) samples.push(performance.now() - startMs);
  }
  socket.destroy();
  return samples;
}

/** Milliseconds from connect to the first byte of an answer. */
async function opening(port: number): Promise<number> {
  const startMs = performance.now();
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  socket.write('x');
  await once(socket, 'data');
  socket.destroy();
  return performance.now() - startMs;
}

/** The bench. */
export const bench: Bench = {
  name: 'tunnel',
  description: 'a port of a session through the link, beside a direct TCP connection',
  missing: () => undefined,
  run: async ({ quick, say }) => {
    await using setup = await setUp();
    const bytes = quick ? 5_000_000 : 200_000_000;
    const peer = { name: 'direct TCP', rates: [] as number[], trips: [] as number[], opens: [] as number[] };
    const ours = { rates: [] as number[], trips: [] as number[], opens: [] as number[] };
    for (let run = 0; run < (quick ? 1 : 3); run++) {
      say(`run ${run + 1}: ${bytes / 1e6} MB each, then round trips`);
      peer.rates.push(await throughput(setup.source, bytes));
      ours.rates.push(await throughput(setup.tunnels.source, bytes));
      peer.trips.push(...(await roundTrips(setup.echo, quick ? 50 : 1000)));
      ours.trips.push(...(await roundTrips(setup.tunnels.echo, quick ? 50 : 1000)));
      for (let index = 0; index < (quick ? 5 : 50); index++) {
        peer.opens.push(await opening(setup.echo));
        ours.opens.push(await opening(setup.tunnels.echo));
      }
    }
    const row = (metric: string, unit: string, mine: readonly number[], theirs: readonly number[]): BenchRow => {
      return { metric, unit, ours: median(mine), peer: { name: peer.name, value: median(theirs) } };
    };
    return [
      row('throughput of one tunnel', 'MB/s', ours.rates, peer.rates),
      row('round trip of one byte, p50', 'ms', ours.trips, peer.trips),
      row('connect to first answer, p50', 'ms', ours.opens, peer.opens),
    ];
  },
};
