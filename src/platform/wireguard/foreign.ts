// Tells what WireGuard an interface is that somebody else made, by its kind of link or by asking at its socket.
import type { WireguardDevice } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Backend } from '../../core/network/network-spec.ts';
import type { FoundLink } from './linux-links.ts';
import { PLAIN } from './uapi.ts';
import { UapiDevice, uapiPath } from './uapi-device.ts';

/** Somebody else's WireGuard. */
export type ForeignWireguard =
  | { readonly kind: 'kernel' }
  | { readonly kind: Exclude<Backend, 'kernel'>; readonly device: WireguardDevice };

/** Undefined if it is no WireGuard. */
export async function findForeign(
  name: string,
  link: FoundLink,
  signal?: AbortSignal,
): Promise<ForeignWireguard | undefined> {
  if (link.kind === 'wireguard') return { kind: 'kernel' };
  if (link.kind !== 'tun') return undefined;
  const device = new UapiDevice(uapiPath(name));
  try {
    return { kind: (await device.probe(signal)) === PLAIN ? 'wireguard-go' : 'boringtun', device };
  } catch (error) {
    // Nobody answers for it: a VPN of another kind.
    if (error instanceof LonglineError && error.reason === 'unavailable') return undefined;
    throw error;
  }
}
