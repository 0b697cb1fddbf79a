// WireGuard of the Linux kernel. A link is made under a name that only we use, gets our label and only then its name: one without
// our label is never taken for ours. Proven on a fake of iproute2 and of the kernel's netlink; the device's part also on a real
// kernel wherever the tests find one that has WireGuard.
import { createHash } from 'node:crypto';
import type { InterfaceRequest, WireguardDevice } from '../../capabilities/network/ports.ts';
import { describeError } from '../../core/errors.ts';
import type { WireguardBackend } from './backend.ts';
import type { InterfaceRecord } from './interface-record.ts';
import { KernelDevice } from './kernel-device.ts';
import { libc } from './libc.ts';
import type { LinuxLinks } from './linux-links.ts';

const EARLY_NAME = /^ll[0-9a-f]{12}$/;

/** True for the name of a link that is being made and hasn't its own yet. */
export function isEarlyName(name: string): boolean {
  return EARLY_NAME.test(name);
}

/** What a backend is made of. */
export interface KernelParts {
  readonly links: LinuxLinks;
  /** What our links carry. */
  readonly label: string;
}

/** The kernel's WireGuard. */
export class KernelBackend implements WireguardBackend {
  readonly kind = 'kernel';
  readonly #parts: KernelParts;

  constructor(parts: KernelParts) {
    this.#parts = parts;
  }

  async missing(signal?: AbortSignal): Promise<string | undefined> {
    try {
      libc();
    } catch (error) {
      return describeError(error);
    }
    const said = await this.#parts.links.refusalOfKind(signal);
    if (/number of transmit queues/i.test(said)) return undefined;
    if (/not permitted/i.test(said)) return 'interfaces can be made only with CAP_NET_ADMIN';
    return `this kernel has no WireGuard (${said}); load its module (modprobe wireguard), or install wireguard-go`;
  }

  async fault({ realName }: InterfaceRecord, signal?: AbortSignal): Promise<string | undefined> {
    const link = await this.#parts.links.find(realName, signal);
    if (link === undefined) return `its link "${realName}" is gone`;
    return link.kind === 'wireguard' ? undefined : `its link "${realName}" is no WireGuard`;
  }

  async alive(): Promise<void> {
    // A link that is there works.
  }

  shortOf(): undefined {
    return undefined;
  }

  async make({ mtu, name }: InterfaceRequest, _save: unknown, signal?: AbortSignal): Promise<void> {
    const { label, links } = this.#parts;
    await this.#remove(name, signal);
    const early = this.#earlyName(name);
    await links.makeWireguard(early, signal);
    await links.label(early, label, mtu, signal);
    await links.rename(early, name, signal);
  }

  async halt(): Promise<void> {
    // Nothing but the link keeps it working.
  }

  async clear({ realName }: InterfaceRecord, signal?: AbortSignal): Promise<void> {
    await this.#remove(realName, signal);
  }

  device(realName: string): WireguardDevice {
    return new KernelDevice(realName);
  }

  async #remove(name: string, signal: AbortSignal | undefined): Promise<void> {
    const { label, links } = this.#parts;
    const early = this.#earlyName(name);
    if ((await links.find(early, signal))?.kind === 'wireguard') await links.remove(early, signal);
    if ((await links.find(name, signal))?.label === label) await links.remove(name, signal);
  }

  /** A name that nobody else comes to: it follows from our label, which holds an id that only we have. */
  #earlyName(name: string): string {
    return `ll${createHash('sha256').update(`${this.#parts.label} ${name}`).digest('hex').slice(0, 12)}`;
  }
}
