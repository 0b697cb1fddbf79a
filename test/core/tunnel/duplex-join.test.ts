import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { joinDuplex } from '../../../src/core/tunnel/duplex-join.ts';
import { TunnelEnd } from '../../../src/core/tunnel/tunnel-end.ts';
import { TUNNEL_WINDOW_BYTES } from '../../../src/core/tunnel/tunnel-frame.ts';

/** All bytes until the end; unlike a stream consumer it leaves the other direction open. */
async function received(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on('data', (data: Buffer) => parts.push(data));
  await once(socket, 'end');
  return Buffer.concat(parts);
}

/** A client's socket joined, through two ends, with a server's socket. */
async function joined(): Promise<
  { client: Socket; server: Socket; ends: TunnelEnd[]; over: Promise<unknown>[] } & Disposable
> {
  const sockets: Socket[] = [];
  const pair = async (): Promise<[Socket, Socket]> => {
    const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const socket = connect({ port: (listener.address() as AddressInfo).port, allowHalfOpen: true });
    const [accepted] = (await once(listener, 'connection')) as [Socket];
    listener.close();
    sockets.push(socket, accepted);
    return [socket, accepted];
  };
  const [client, near] = await pair();
  const [server, far] = await pair();
  const left: TunnelEnd = new TunnelEnd(async (frame) => right.accept(frame));
  const right: TunnelEnd = new TunnelEnd(async (frame) => left.accept(frame));
  const joins = [joinDuplex(left, near, { what: 'near' }), joinDuplex(right, far, { what: 'far' })];
  const over = joins.map((join) =>
    join.then(
      () => 'whole',
      (error: unknown) => error,
    ),
  );
  return {
    client,
    server,
    ends: [left, right],
    over,
    [Symbol.dispose]: () => {
      for (const socket of sockets) socket.on('error', () => undefined).destroy();
    },
  };
}

describe('a socket joined with a tunnel', () => {
  it('passes bytes and half-closes both ways', async () => {
    using setup = await joined();
    const { client, server, over } = setup;
    const sent = Buffer.alloc(3_000_000, 'ab');
    const asked = received(server);
    client.end(sent);
    assert.ok((await asked).equals(sent));
    const answered = received(client);
    server.end('the answer comes after the end of the question');
    assert.match((await answered).toString(), /^the answer/);
    assert.deepEqual(await Promise.all(over), ['whole', 'whole']);
  });

  it('reads no further than the other side does', async () => {
    using setup = await joined();
    const { client, server, ends } = setup;
    server.pause();
    let taken = 0;
    let stuck = 0;
    while (stuck < 200) {
      if (client.writableNeedDrain) stuck += 1;
      else {
        client.write(Buffer.alloc(65_536));
        taken += 65_536;
        stuck = 0;
      }
      await new Promise(setImmediate);
    }
    // Socket buffers of the kernel are counted in; they are far below this.
    assert.ok(taken < 64 * 1024 * 1024);
    for (const end of ends) assert.ok(end.heldBytes <= TUNNEL_WINDOW_BYTES);
  });

  it('fails with the reason when the socket is reset', async () => {
    using setup = await joined();
    setup.client.resetAndDestroy();
    assert.match(String(await setup.over[0]), /near: the connection broke: /);
  });
});
