// Tunnels over SessionService.Tunnel, from caller to a port or process and back, through the real controller and link.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { TunnelRequestSchema, TunnelResponse } from '#gen/longline/fleet/v1/session_service_pb.js';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import { Channel } from '../../../src/core/channel.ts';
import { TUNNEL_WINDOW_BYTES } from '../../../src/core/tunnel/tunnel-frame.ts';
import { SESSION, TunnelFleet } from '../../fixtures/tunnel-fleet.ts';
import { until } from '../../link/scratch.ts';
import { until as eventually } from '../link/fleet-fixture.ts';

type RequestInit = NonNullable<MessageInitShape<typeof TunnelRequestSchema>['message']>;
type Target = NonNullable<Extract<RequestInit, { case: 'open' }>['value']['target']>['target'];

/** One call, with what came over it. Grants credit as it reads, unless told not to. */
class Call {
  readonly requests = new Channel<MessageInitShape<typeof TunnelRequestSchema>>(1024);
  readonly messages: TunnelResponse['message'][] = [];
  readonly #reading: Promise<void>;
  readonly #abort = new AbortController();
  failure: ConnectError | undefined;
  ended = false;
  taken = 0;

  constructor(
    fleet: Pick<TunnelFleet, 'sessions'>,
    target: Target,
    options: { sessionId?: string; grants?: boolean; noWake?: boolean } = {},
  ) {
    const { sessionId = SESSION, grants = true, noWake = false } = options;
    this.say({ case: 'open', value: { sessionId, target: { target }, noWake } as never });
    this.#reading = this.#read(fleet, grants);
  }

  say(message: RequestInit): void {
    assert.ok(this.requests.trySend({ message }));
  }

  write(text: string): void {
    this.say({ case: 'data', value: Buffer.from(text) });
  }

  leave(): void {
    this.#abort.abort();
  }

  async over(): Promise<this> {
    await this.#reading;
    return this;
  }

  text(kind: 'data' | 'stderr' = 'data'): string {
    return Buffer.concat(this.messages.flatMap((one) => (one.case === kind ? [one.value] : []))).toString();
  }

  of<K extends NonNullable<TunnelResponse['message']['case']>>(kind: K) {
    return this.messages.find((one) => one.case === kind)?.value as
      | Extract<TunnelResponse['message'], { case: K }>['value']
      | undefined;
  }

  async #read(fleet: Pick<TunnelFleet, 'sessions'>, grants: boolean): Promise<void> {
    try {
      for await (const { message } of fleet.sessions.tunnel(this.requests, { signal: this.#abort.signal })) {
        this.messages.push(message);
        if (message.case !== 'data' && message.case !== 'stderr') continue;
        this.taken += message.value.length;
        if (grants) this.requests.trySend({ message: { case: 'window', value: { taken: BigInt(this.taken) } } });
      }
    } catch (error) {
      this.failure = ConnectError.from(error);
    } finally {
      this.ended = true;
      this.requests.close();
    }
  }
}

/** Answers each connection as the test says. */
async function listen(serve: (socket: Socket) => void): Promise<{ port: number; server: Server }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, server };
}

const port = (value: number): Target => ({ case: 'port', value });

describe('tunnels over the API', () => {
  let fleet: TunnelFleet;
  const servers: Server[] = [];
  const sockets = new Set<Socket>();
  let echo: number;
  let flood: number;
  let reset: number;
  /** Says goodbye at once, and goes on listening. */
  let listener: number;
  let heard = '';

  before(async () => {
    const open = async (serve: (socket: Socket) => void) => {
      const { port: number, server } = await listen((socket) => {
        sockets.add(socket);
        serve(socket);
      });
      servers.push(server);
      return number;
    };
    echo = await open((socket) => socket.pipe(socket));
    flood = await open((socket) => {
      const more = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536, 'f')));
      };
      socket.on('drain', more);
      more();
    });
    reset = await open((socket) => socket.once('data', () => socket.resetAndDestroy()));
    listener = await open((socket) => {
      socket.end('bye');
      socket.on('data', (data) => {
        heard += data;
      });
    });
    fleet = await TunnelFleet.start({ ports: [echo, flood, reset, listener, 1], limits: { pingMs: 50 } });
  });
  after(async () => {
    await fleet[Symbol.asyncDispose]();
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.close();
  });
  beforeEach(async () => {
    await until('no tunnel is left', () => fleet.session.visits.size === 0);
  });

  it('ends with its token, also where nothing comes back', async () => {
    const { token, apiToken } = await fleet.tokens.createApiToken({ name: 'short', role: 2 });
    const call = new Call(fleet.clients(token), port(echo));
    await until('it is open', () => call.of('opened') !== undefined);
    await fleet.tokens.revokeApiToken({ id: apiToken!.id });
    await until('it is over', () => call.ended);
    assert.equal(call.failure?.code, Code.Unauthenticated);
    assert.match(call.failure!.message, /"short" was revoked/);
  });

  it('brings bytes both ways, counts them as activity, and half-closes each direction', async () => {
    const before = { ...fleet.session.touched };
    const call = new Call(fleet, port(echo));
    await until('it is open', () => call.of('opened') !== undefined);
    assert.match(call.of('opened')!.tunnelId, /^[\w-]{32}$/);
    assert.equal(call.of('opened')!.woken, false);
    call.write('hello ');
    await until('the echo came', () => call.text() === 'hello ');
    call.write('world');
    call.say({ case: 'halfClose', value: {} });
    await call.over();
    assert.equal(call.failure, undefined);
    assert.equal(call.text(), 'hello world');
    assert.ok(call.of('halfClose'));
    assert.deepEqual([fleet.session.touched.in - before.in, fleet.session.touched.out - before.out], [11, 11]);
    assert.equal(fleet.asked.at(-1)?.creator, 'admin');
    const closed = fleet.log.lines.findLast(({ message }) => message === 'tunnel closed');
    assert.deepEqual(
      [closed?.fields['bytesIn'], closed?.fields['bytesOut'], closed?.fields['creator']],
      [11, 11, 'admin'],
    );
  });

  it('goes on taking bytes for a session that has said all', async () => {
    const call = new Call(fleet, port(listener));
    await until('it said all', () => call.of('halfClose') !== undefined);
    call.write('still ');
    await until('the first came', () => heard === 'still ');
    call.write('heard');
    call.say({ case: 'halfClose', value: {} });
    await call.over();
    assert.deepEqual([call.text(), call.failure], ['bye', undefined]);
    await until('all came', () => heard === 'still heard');
  });

  it('wakes a session that sleeps, unless told not to', async () => {
    fleet.session.asleep = true;
    const refused = await new Call(fleet, port(echo), { noWake: true }).over();
    assert.equal(refused.failure?.code, Code.FailedPrecondition);
    const call = new Call(fleet, port(echo));
    await until('it is open', () => call.of('opened') !== undefined);
    assert.equal(call.of('opened')!.woken, true);
    call.leave();
    await call.over();
  });

  it('refuses what is not offered, not there, or not well formed', async () => {
    for (const [target, sessionId, code, message] of [
      [port(2), SESSION, Code.PermissionDenied, /does not offer port 2/],
      [port(0), SESSION, Code.InvalidArgument, /open.target.port: is 0/],
      [port(70_000), SESSION, Code.InvalidArgument, /must be 1 to 65535/],
      [port(echo), 'nobody', Code.NotFound, /there is no session nobody/],
      [port(echo), '../x', Code.InvalidArgument, /no session id/],
      [{ case: 'exec', value: { argv: [] } }, SESSION, Code.InvalidArgument, /name the program/],
      [{ case: undefined }, SESSION, Code.InvalidArgument, /open.target: is missing/],
    ] as [Target, string, Code, RegExp][]) {
      const call = await new Call(fleet, target, { sessionId }).over();
      assert.equal(call.failure?.code, code, String(message));
      assert.match(call.failure!.message, message);
    }
  });

  it('says which port of the session can not be reached', async () => {
    const call = await new Call(fleet, port(1)).over();
    assert.equal(call.failure?.code, Code.Unavailable);
    assert.match(call.failure!.message, /127\.0\.0\.1:1 refused \(ECONNREFUSED\)/);
  });

  it('says why an open tunnel broke', async () => {
    const call = new Call(fleet, port(reset));
    await until('it is open', () => call.of('opened') !== undefined);
    call.write('x');
    await call.over();
    assert.equal(call.failure?.code, Code.Unavailable);
    assert.match(call.failure!.message, /the connection broke/);
  });

  it('holds a window for a caller that stops reading, and lets others pass', async () => {
    const slow = new Call(fleet, port(flood), { grants: false });
    await until('the window is used up', () => slow.taken === TUNNEL_WINDOW_BYTES);
    // One connection of a caller takes 100 calls, those that are just ending counted in.
    const more = [fleet.clients(fleet.context.token), fleet.clients(fleet.context.token)];
    const others = Array.from({ length: 100 }, (_, index) => new Call(more[index % 2]!, port(echo)));
    await until('all are open', () => others.every((call) => call.of('opened')));
    assert.equal(fleet.session.visits.size, 101);
    for (const [index, call] of others.entries()) {
      call.write(`number ${index}`);
      call.say({ case: 'halfClose', value: {} });
    }
    for (const [index, call] of others.entries()) assert.equal((await call.over()).text(), `number ${index}`);
    assert.equal(slow.taken, TUNNEL_WINDOW_BYTES);
    slow.leave();
    await slow.over();
  });

  it('ends the connection in the session when the caller leaves', async () => {
    const call = new Call(fleet, port(echo));
    await until('it is open', () => call.of('opened') !== undefined);
    call.leave();
    await call.over();
    await until('the visit is over', () => fleet.session.visits.size === 0);
  });

  it('refuses a caller that sends more than the window', async () => {
    const call = new Call(fleet, { case: 'exec', value: { argv: ['/bin/sleep', '60'] } as never });
    await until('it is open', () => call.of('opened') !== undefined);
    for (let piece = 0; piece < 40; piece++) call.say({ case: 'data', value: new Uint8Array(65_536) });
    await call.over();
    assert.equal(call.failure?.code, Code.ResourceExhausted);
    assert.match(call.failure!.message, /more than the window/);
  });

  it('runs a command: output, errors and exit code apart, input to its end', async () => {
    const argv = ['/bin/sh', '-c', 'echo out; echo err >&2; cat; exit 7'];
    const call = new Call(fleet, { case: 'exec', value: { argv } as never });
    await until('it is open', () => call.of('opened') !== undefined);
    call.write('typed');
    call.say({ case: 'halfClose', value: {} });
    await call.over();
    assert.deepEqual([call.text(), call.text('stderr'), call.of('exit')?.code], ['out\ntyped', 'err\n', 7]);
    assert.equal(call.failure, undefined);
  });

  it('ends the input of a terminal as typing does, and hangs up on nobody', async () => {
    const call = new Call(fleet, { case: 'exec', value: { argv: ['/bin/cat'], tty: true } as never });
    await until('it is open', () => call.of('opened') !== undefined);
    call.say({ case: 'halfClose', value: {} });
    await until('the character came back', () => call.text() === '\x04');
    call.say({ case: 'signal', value: { name: 'SIGTERM' } });
    assert.equal((await call.over()).of('exit')?.code, 143);
  });

  it('lets go of the main process without ending its input', async () => {
    const call = new Call(fleet, { case: 'attach', value: {} as never });
    await until('it is open', () => call.of('opened') !== undefined);
    call.say({ case: 'halfClose', value: {} });
    call.say({ case: 'resize', value: { columns: 90, rows: 20 } });
    await until('it goes on', () => fleet.session.sizes.includes('90x20'));
    assert.equal(call.ended, false);
    call.leave();
    await call.over();
  });

  it('signals a command, and tells what ended it', async () => {
    const call = new Call(fleet, { case: 'exec', value: { argv: ['/bin/sleep', '60'] } as never });
    await until('it is open', () => call.of('opened') !== undefined);
    call.say({ case: 'signal', value: { name: 'SIGTERM' } });
    await call.over();
    assert.deepEqual([call.of('exit')?.code, call.of('exit')?.signal], [143, 'SIGTERM']);
  });

  it('relays through a command of the container where its address can not be dialled', async () => {
    fleet.session.addresses = [];
    try {
      const call = new Call(fleet, port(echo));
      await until('it is open', () => call.of('opened') !== undefined || call.ended);
      call.write('through a relay');
      await until('the echo came', () => call.text() === 'through a relay' || call.ended);
      assert.equal(call.failure, undefined);
      call.leave();
      await call.over();
      const dead = await new Call(fleet, port(1)).over();
      assert.match(dead.failure!.message, /relay to 127\.0\.0\.1:1 inside the container/);
    } finally {
      fleet.session.addresses = ['127.0.0.1'];
    }
  });

  it('needs the role of an operator', async () => {
    const { token } = await fleet.tokens.createApiToken({ name: 'looker', role: 1 });
    const { sessions } = fleet.clients(token);
    const requests = new Channel<MessageInitShape<typeof TunnelRequestSchema>>(1);
    const reading = (async () => {
      for await (const _ of sessions.tunnel(requests));
    })();
    await assert.rejects(reading, /Tunnel needs role operator; API token "looker" has role viewer/);
    requests.close();
  });
});

describe('tunnels whose ends go', () => {
  it('end with the reason when the agent is gone', async (t) => {
    const { port: number, server } = await listen((socket) => socket.pipe(socket));
    t.after(() => void server.close());
    await using fleet = await TunnelFleet.start({ ports: [number] });
    const call = new Call(fleet, port(number));
    await until('it is open', () => call.of('opened') !== undefined);
    await fleet.agent[Symbol.asyncDispose]();
    await call.over();
    assert.equal(call.failure?.code, Code.Unavailable);
    // The stream that tells ends beside the tunnel, before it or after it.
    const state = async () => (await fleet.store.agents.get('host-1'))?.state;
    await eventually('the agent is known to be away', async () => (await state()) === AgentState.OFFLINE);
    const next = await new Call(fleet, port(number)).over();
    assert.equal(next.failure?.code, Code.Unavailable);
    assert.match(next.failure!.message, /agent host-1, which holds session desk, is away/);
  });

  it('end with the reason when the controller stops', async (t) => {
    const { port: number, server } = await listen((socket) => socket.pipe(socket));
    t.after(() => void server.close());
    // Half of it passes before calls are ended, and they have to be told in the other.
    await using fleet = await TunnelFleet.start({ ports: [number], controller: { drainWindowMs: 4000 } });
    const call = new Call(fleet, port(number));
    await until('it is open', () => call.of('opened') !== undefined);
    await fleet.controller[Symbol.asyncDispose]();
    await call.over();
    assert.equal(call.failure?.code, Code.Unavailable);
    await until('the visit is over', () => fleet.session.visits.size === 0);
  });
});
