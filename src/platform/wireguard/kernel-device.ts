// An interface of the kernel's WireGuard, over netlink: no program is started, so no key is ever an argument of one. Needs
// CAP_NET_ADMIN. Fails with `unavailable` if there is no such interface or no answer, and otherwise with what was refused.
import { getSystemErrorName } from 'node:util';
import type { DeviceChange, FoundDevice, WireguardDevice } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { attribute, attributesOf, type Netlink, NetlinkRefusal, NetlinkSocket } from './netlink.ts';
import { decodeDevice, encodeChange, encodeGet } from './wireguard-netlink.ts';

const NETLINK_GENERIC = 16;
const CONTROL_FAMILY = 16;
const CONTROL_GET_FAMILY = 3;
const CONTROL_FAMILY_ID = 1;
const CONTROL_FAMILY_NAME = 2;
const ENOENT = 2;
const EPERM = 1;
const ENODEV = 19;
const EINVAL = 22;
const EOPNOTSUPP = 95;
const EADDRINUSE = 98;

/** Talks to one interface. Holds nothing open between calls. */
export class KernelDevice implements WireguardDevice {
  readonly #name: string;
  readonly #connect: () => Netlink;

  constructor(name: string, connect: () => Netlink = () => new NetlinkSocket(NETLINK_GENERIC)) {
    this.#name = name;
    this.#connect = connect;
  }

  async read(signal?: AbortSignal): Promise<FoundDevice> {
    return await this.#talk('be read', signal, async (netlink, family) => {
      return decodeDevice(await netlink.request(family, encodeGet(this.#name), 'dump'));
    });
  }

  async write(change: DeviceChange, signal?: AbortSignal): Promise<void> {
    const what = 'take a change; what came before the refused part stays written';
    await this.#talk(what, signal, async (netlink, family) => {
      for (const part of encodeChange(this.#name, change)) {
        if (!Buffer.isBuffer(part)) throw new NetlinkRefusal(EINVAL);
        await netlink.request(family, part, 'do');
        part.fill(0);
        stopIfAborted(signal);
      }
    });
  }

  async #talk<Result>(
    what: string,
    signal: AbortSignal | undefined,
    work: (netlink: Netlink, family: number) => Promise<Result>,
  ): Promise<Result> {
    stopIfAborted(signal);
    using netlink = this.#connect();
    try {
      return await work(netlink, await familyOf(netlink));
    } catch (error) {
      if (error instanceof NetlinkRefusal) throw this.#refusal(error.errno, what);
      throw error;
    }
  }

  #refusal(errno: number, what: string): LonglineError {
    const who = `the kernel's WireGuard "${this.#name}"`;
    if (errno === ENODEV || errno === EOPNOTSUPP) return new LonglineError('unavailable', `${who} is not there`);
    const message = `${who} refused to ${what} (errno ${errno}, ${getSystemErrorName(-errno)})`;
    if (errno === EPERM) return new LonglineError('unavailable', `${message}; CAP_NET_ADMIN is needed`);
    if (errno === EADDRINUSE) return new LonglineError('already_exists', `${message}: its listen port is taken`);
    return new LonglineError('invalid', message);
  }
}

function stopIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new LonglineError('cancelled', 'the operation was cancelled', { cause: signal.reason });
}

/** Number of WireGuard's family, which the kernel gives out when its module is loaded. */
async function familyOf(netlink: Netlink): Promise<number> {
  const name = attribute(CONTROL_FAMILY_NAME, Buffer.from('wireguard\0'));
  const request = Buffer.concat([Buffer.from([CONTROL_GET_FAMILY, 1, 0, 0]), name]);
  try {
    for (const reply of await netlink.request(CONTROL_FAMILY, request, 'do')) {
      for (const [type, value] of attributesOf(reply.subarray(4))) {
        if (type === CONTROL_FAMILY_ID) return value.readUInt16LE();
      }
    }
  } catch (error) {
    if (!(error instanceof NetlinkRefusal && error.errno === ENOENT)) throw error;
  }
  throw new LonglineError('unavailable', 'this kernel has no WireGuard, or its module is not loaded');
}
