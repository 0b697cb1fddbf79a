// A live connection to a container's standard streams over a hijacked socket.
import type { Socket } from 'node:net';
import type { Attachment, OutputPiece } from '../../capabilities/jobs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { demultiplex } from './demultiplexer.ts';
import { connectionError } from './engine-errors.ts';

/** What an attachment tells and asks its engine. */
export interface AttachmentHost {
  /** For messages. */
  readonly where: string;
  /** The bytes come as they are, from a terminal, and not in frames by stream. */
  readonly raw?: boolean;
  /** The output has ended on the wire. Throws `unavailable` if that was the daemon's end and not the container's. */
  confirmEnd(): Promise<void>;
  /** The attachment lets go of its socket. Called once. */
  closed(): void;
}

/** Owns the socket. The socket is read only as fast as `output` is. */
export class SocketAttachment implements Attachment {
  readonly #socket: Socket;
  readonly #host: AttachmentHost;
  readonly #inputOpen: boolean;
  #read = false;
  #destroyed = false;

  constructor(socket: Socket, withInput: boolean, host: AttachmentHost) {
    this.#socket = socket;
    this.#host = host;
    this.#inputOpen = withInput;
    // Readers and writers get errors where they wait; an error while nobody waits must not end the process.
    socket.on('error', () => undefined);
    socket.once('close', () => host.closed());
  }

  get output(): AsyncIterable<OutputPiece> {
    return { [Symbol.asyncIterator]: () => this.#pieces() };
  }

  async writeInput(data: Uint8Array): Promise<void> {
    if (!this.#inputOpen || this.#socket.writableEnded || this.#socket.destroyed) throw inputClosed();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#socket.write(data, (error) => (error ? reject(this.#explain('write input', error)) : resolve()));
    await promise;
  }

  async endInput(): Promise<void> {
    if (this.#socket.writableEnded || this.#socket.destroyed) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onClose = () => resolve();
    this.#socket.once('close', onClose);
    this.#socket.end((error?: Error | null) => (error ? reject(this.#explain('end input', error)) : resolve()));
    await promise.finally(() => this.#socket.removeListener('close', onClose));
  }

  destroy(): void {
    this.#destroyed = true;
    this.#socket.destroy();
  }

  async *#pieces(): AsyncGenerator<OutputPiece, void, undefined> {
    if (this.#read) throw new LonglineError('wrong_state', "an attachment's output has one reader");
    this.#read = true;
    try {
      if (this.#host.raw) yield* rawPieces(this.#socket);
      else yield* demultiplex(this.#socket);
    } catch (error) {
      throw this.#explain('read output', error);
    }
    if (this.#destroyed) throw cancelled();
    await this.#host.confirmEnd();
  }

  #explain(what: string, thrown: unknown): LonglineError {
    return this.#destroyed ? cancelled() : connectionError(what, this.#host.where, thrown);
  }
}

async function* rawPieces(socket: Socket): AsyncGenerator<OutputPiece, void, undefined> {
  for await (const data of socket as AsyncIterable<Buffer>) yield { stream: 'stdout', data };
}

function inputClosed(): LonglineError {
  return new LonglineError('wrong_state', "the container's standard input is closed");
}

function cancelled(): LonglineError {
  return new LonglineError('cancelled', 'the attachment was destroyed');
}
