// Stands before a WireGuard's socket and counts what is written to it: bytes of operations that set something.
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Dispose closes it. */
export class CountingSocket implements AsyncDisposable {
  readonly #server: Server;
  /** Bytes of set operations so far. */
  setBytes = 0;

  private constructor(target: string) {
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#relay(client, connect(target)));
  }

  static async listen(path: string, target: string): Promise<CountingSocket> {
    const relay = new CountingSocket(target);
    relay.#server.listen(path);
    await once(relay.#server, 'listening');
    return relay;
  }

  #relay(client: Socket, daemon: Socket): void {
    let sets: boolean | undefined;
    client.on('data', (data: Buffer) => {
      sets ??= data.toString('latin1', 0, 4) === 'set=';
      if (sets) this.setBytes += data.length;
    });
    client.pipe(daemon);
    daemon.pipe(client);
    for (const [one, other] of [
      [client, daemon],
      [daemon, client],
    ] as const) {
      one.on('error', () => other.destroy());
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
  }
}
