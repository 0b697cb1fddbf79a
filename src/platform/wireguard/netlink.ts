// Messages to the kernel over a netlink socket, and their attributes. Calls wait on a thread, since the kernel may hold one back
// while it works. Linux only. A refusal is a NetlinkRefusal with the kernel's number; what can't be sent or isn't answered in
// time is `unavailable`. Knows nothing of WireGuard.
import { closeSync } from 'node:fs';
import { LonglineError } from '../../core/errors.ts';
import { libc, libcThreaded } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const LIMIT_SECONDS = 20;
const RECEIVE_BYTES = 64 * 1024;
const HEADER_BYTES = 16;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 0x1;
const NLM_F_MULTI = 0x2;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;
const NLA_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

/** The kernel refused a message. */
export class NetlinkRefusal extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`the kernel refused with ${errno}`);
    this.errno = errno;
  }
}

/** Where messages go: a socket, or what stands in for the kernel. */
export interface Netlink extends Disposable {
  /** Sends one message and gives the payloads of its replies, the acknowledgement not among them. */
  request(type: number, payload: Buffer, kind: 'do' | 'dump'): Promise<readonly Buffer[]>;
}

/** A socket of its own for each use; requests on it follow one another. */
export class NetlinkSocket implements Netlink {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(RECEIVE_BYTES);
  #sequence = 0;

  constructor(protocol: number) {
    this.#fd = libc()('socket', AF_NETLINK, SOCK_RAW_CLOEXEC, protocol);
    const limit = Buffer.alloc(16);
    limit.writeBigInt64LE(BigInt(LIMIT_SECONDS), 0);
    for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) {
      libc()('setsockopt', this.#fd, SOL_SOCKET, option, limit, limit.length);
    }
  }

  async request(type: number, payload: Buffer, kind: 'do' | 'dump'): Promise<readonly Buffer[]> {
    this.#sequence += 1;
    const message = Buffer.alloc(HEADER_BYTES + payload.length);
    message.writeUInt32LE(message.length, 0);
    message.writeUInt16LE(type, 4);
    message.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK | (kind === 'dump' ? NLM_F_DUMP : 0), 6);
    message.writeUInt32LE(this.#sequence, 8);
    payload.copy(message, HEADER_BYTES);
    await libcThreaded('send', this.#fd, message, message.length, 0);
    // It may hold a key.
    message.fill(0);
    const replies: Buffer[] = [];
    while (!(await this.#receive(replies)));
    return replies;
  }

  [Symbol.dispose](): void {
    this.#buffer.fill(0);
    closeSync(this.#fd);
  }

  /** Takes one packet of messages; true if the last of the replies was in it. */
  async #receive(replies: Buffer[]): Promise<boolean> {
    const size = await libcThreaded('recv', this.#fd, this.#buffer, this.#buffer.length, 0);
    let at = 0;
    while (at + HEADER_BYTES <= size) {
      const length = this.#buffer.readUInt32LE(at);
      if (length < HEADER_BYTES || at + length > size) break;
      const type = this.#buffer.readUInt16LE(at + 4);
      const flags = this.#buffer.readUInt16LE(at + 6);
      const mine = this.#buffer.readUInt32LE(at + 8) === this.#sequence;
      const body = this.#buffer.subarray(at + HEADER_BYTES, at + length);
      at += align(length);
      if (!mine) continue;
      if ((flags & NLM_F_DUMP_INTR) !== 0) {
        throw new LonglineError('unavailable', 'what was read from the kernel changed meanwhile');
      }
      if (type !== NLMSG_ERROR && type !== NLMSG_DONE) {
        replies.push(Buffer.from(body));
        continue;
      }
      const errno = body.length >= 4 ? -body.readInt32LE(0) : 0;
      if (errno !== 0) throw new NetlinkRefusal(errno);
      if (type === NLMSG_DONE || (flags & NLM_F_MULTI) === 0) return true;
    }
    return false;
  }
}

/** An attribute; types are those of the family that it is sent to. */
export function attribute(type: number, value: Buffer): Buffer {
  const length = 4 + value.length;
  const bytes = Buffer.alloc(align(length));
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  value.copy(bytes, 4);
  return bytes;
}

/** An attribute that holds others. */
export function nested(type: number, values: readonly Buffer[]): Buffer {
  return attribute(type | NLA_NESTED, Buffer.concat(values));
}

/** What attributes there are, in order, without the marks on their types. */
export function* attributesOf(bytes: Buffer): Generator<readonly [type: number, value: Buffer]> {
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length)
      throw new LonglineError('internal', 'the kernel sent a broken attribute');
    yield [bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length)];
    at += align(length);
  }
}

function align(length: number): number {
  return (length + 3) & ~3;
}

/** A number of 16 bits, as attributes have it. */
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

/** A number of 32 bits, as attributes have it. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
