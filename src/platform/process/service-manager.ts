// Tells systemd how the service is, by its protocol: one datagram to the socket that NOTIFY_SOCKET names. Node has no datagrams on
// unix sockets, so this goes through koffi. Without that variable nobody asked, and nothing is done.
import { closeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { LonglineError } from '../../core/errors.ts';
import type { ServiceState } from '../../core/service-voice.ts';

const [AF_UNIX, SOCK_DGRAM, SOCK_CLOEXEC, SOCK_NONBLOCK, MSG_NOSIGNAL] = [1, 2, 0o2000000, 0o4000, 0x4000];
/** What sockaddr_un has room for. */
const LONGEST_PATH = 107;
/** More than anybody reads in one line. */
const LONGEST_STATUS = 512;

interface Calls {
  readonly socket: (...args: number[]) => number;
  readonly sendto: (...args: (number | Buffer)[]) => number;
}

let calls: Calls | undefined;

/** Tells the service manager, if there is one that asked. Throws `unavailable` if it can't be told now. */
export function tellServiceManager(notifySocket: string | undefined, ...states: readonly ServiceState[]): void {
  if (notifySocket === undefined || notifySocket === '' || process.platform !== 'linux') return;
  // "@" at the front stands for the NUL of a socket that is in no file system.
  const path = Buffer.from(notifySocket.replace(/^@/, '\0'));
  if (path.length > LONGEST_PATH) throw new LonglineError('invalid', `NOTIFY_SOCKET has ${path.length} bytes`);
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  const address = Buffer.concat([family, path]);
  const lines = states.map((state) => state.replaceAll(/\p{Cc}/gu, ' ').slice(0, LONGEST_STATUS));
  const text = Buffer.from([...lines, `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, ''].join('\n'));
  calls ??= load();
  const { socket, sendto } = calls;
  // A manager that doesn't read must not hold up whom it watches.
  const descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) throw new LonglineError('unavailable', 'no socket could be opened for the service manager');
  try {
    const sent = sendto(descriptor, text, text.length, MSG_NOSIGNAL, address, address.length);
    if (sent < 0) throw new LonglineError('unavailable', `the service manager can't be told at ${notifySocket}`);
  } finally {
    closeSync(descriptor);
  }
}

function load(): Calls {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const library = koffi.load(null);
  return {
    socket: library.func('int socket(int domain, int type, int protocol)') as Calls['socket'],
    sendto: library.func(
      'intptr_t sendto(int fd, void *data, size_t length, int flags, void *address, uint size)',
    ) as Calls['sendto'],
  };
}
