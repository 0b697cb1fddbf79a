// What a WireGuard daemon is handed over so that it needs no privileges: a TUN device and a socket that listens. Linux only.
// Whoever gets a descriptor closes it.
import { chmodSync, chownSync, closeSync, constants, fchmodSync, openSync } from 'node:fs';
import { LonglineError } from '../../core/errors.ts';
import { errnoBehind, libc } from './libc.ts';

const TUNSETIFF = 0x4004_54ca;
const TUNSETPERSIST = 0x4004_54cb;
const IFF_TUN = 0x0001;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_TUN_EXCL = 0x8000;
const NAME_BYTES = 16;
/** struct ifreq on 64-bit machines; shorter on others. */
const REQUEST_BYTES = 40;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const BACKLOG = 128;
const EBUSY = 16;

/** How a daemon reads and writes packets: it has to be told to the device by whoever opens it. */
export type TunFormat = 'with-protocol' | 'offloaded' | 'several-queues';

const FLAGS: Readonly<Record<TunFormat, number>> = {
  'with-protocol': IFF_TUN,
  offloaded: IFF_TUN | IFF_NO_PI | IFF_VNET_HDR,
  'several-queues': IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE,
};

/**
 * Opens a TUN device: a new one, or a kept one that nobody has open. Until it is kept it goes away with the descriptor. Throws
 * `already_exists` if the name is taken or the device in use.
 */
export function openTun(name: string, format: TunFormat, which: 'new' | 'kept'): number {
  const fd = openSync('/dev/net/tun', constants.O_RDWR);
  try {
    const request = Buffer.alloc(REQUEST_BYTES);
    request.write(name, 0, NAME_BYTES - 1, 'latin1');
    request.writeUInt16LE(FLAGS[format] | (which === 'new' ? IFF_TUN_EXCL : 0), NAME_BYTES);
    libc()('ioctl', fd, TUNSETIFF, 'void *', request);
    return fd;
  } catch (error) {
    closeSync(fd);
    if (errnoBehind(error) !== EBUSY) throw error;
    throw new LonglineError('already_exists', `interface "${name}" is taken by another program`, { cause: error });
  }
}

/** Makes a TUN device stay when its descriptors are closed: addresses and routes then outlive the daemon. */
export function keepTun(fd: number): void {
  libc()('ioctl', fd, TUNSETPERSIST, 'int', 1);
}

/**
 * A socket that listens at `path`, where there must be none. Only its owner may connect; members of the group may read its
 * name, which wireguard-go needs to see it removed.
 */
export function listenAt(path: string, gid: number | undefined): number {
  const address = Buffer.alloc(2 + Buffer.byteLength(path) + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, 2);
  const fd = libc()('socket', AF_UNIX, SOCK_STREAM, 0);
  try {
    // The file takes over the mode of the socket, less the umask: at no time may others connect.
    fchmodSync(fd, 0o600);
    libc()('bind', fd, address, address.length);
    if (gid !== undefined) {
      chownSync(path, process.geteuid?.() ?? 0, gid);
      chmodSync(path, 0o640);
    }
    libc()('listen', fd, BACKLOG);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
