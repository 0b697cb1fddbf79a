// Links of Linux as far as WireGuard's own need goes, through iproute2. A link of ours carries a label that says so: nothing
// without it is ever changed or removed. Needs CAP_NET_ADMIN for what it writes.
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';

/** A link that is there. */
export interface FoundLink {
  readonly index: number;
  /** As the kernel calls it: "wireguard", "tun", "dummy"; empty for a plain device. */
  readonly kind: string;
  /** Empty if it has none. */
  readonly label: string;
}

interface IpLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly ifalias?: string;
  readonly linkinfo?: { readonly info_kind?: string };
}

/** Reads, labels, makes and removes links. */
export class LinuxLinks {
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  async find(name: string, signal?: AbortSignal): Promise<FoundLink | undefined> {
    const { code, stderr, stdout } = await this.#run(
      { argv: ['ip', '-j', '-details', 'link', 'show', 'dev', name] },
      signal,
    );
    if (code !== 0) {
      if (/does not exist|Cannot find device/.test(stderr)) return undefined;
      throw refused('read', name, stderr);
    }
    const [link] = JSON.parse(stdout) as readonly IpLink[];
    if (link === undefined) return undefined;
    return { index: link.ifindex, kind: link.linkinfo?.info_kind ?? '', label: link.ifalias ?? '' };
  }

  /** Names of all links that carry a label. */
  async labelled(label: string, signal?: AbortSignal): Promise<readonly string[]> {
    const { code, stderr, stdout } = await this.#run({ argv: ['ip', '-j', 'link', 'show'] }, signal);
    if (code !== 0) throw refused('read', '', stderr);
    const links = JSON.parse(stdout) as readonly IpLink[];
    return links.filter(({ ifalias }) => ifalias === label).map(({ ifname }) => ifname);
  }

  /** Makes a WireGuard of the kernel's. */
  async makeWireguard(name: string, signal?: AbortSignal): Promise<void> {
    await this.#change(['add', 'dev', name, 'type', 'wireguard'], name, signal);
  }

  /**
   * What the kernel says to a WireGuard that it can't make for another reason: with more queues than it allows none is made,
   * but a kind that it doesn't have is refused before that. It loads its module on the way, if there is one.
   */
  async refusalOfKind(signal?: AbortSignal): Promise<string> {
    const argv = ['ip', 'link', 'add', 'dev', 'llprobe', 'numtxqueues', '5000', 'type', 'wireguard'] as const;
    return (await this.#run({ argv }, signal)).stderr.trim();
  }

  async label(name: string, label: string, mtu: number, signal?: AbortSignal): Promise<void> {
    await this.#change(['set', 'dev', name, 'alias', label, 'mtu', String(mtu)], name, signal);
  }

  async rename(name: string, to: string, signal?: AbortSignal): Promise<void> {
    await this.#change(['set', 'dev', name, 'name', to], name, signal);
  }

  /** Nothing happens if it isn't there. */
  async remove(name: string, signal?: AbortSignal): Promise<void> {
    await this.#change(['delete', 'dev', name], name, signal);
  }

  async #change(args: readonly string[], name: string, signal: AbortSignal | undefined): Promise<void> {
    const { code, stderr } = await this.#run({ argv: ['ip', 'link', ...args] }, signal);
    const gone = args[0] === 'delete' && /does not exist|Cannot find device/.test(stderr);
    if (code !== 0 && !gone) throw refused(args[0]!, name, stderr);
  }
}

function refused(what: string, name: string, stderr: string): LonglineError {
  const said = stderr.trim().slice(0, 300) || 'it gives no reason';
  const message = `ip can't ${what} link "${name}": ${said}`;
  if (/File exists/.test(said)) return new LonglineError('already_exists', message);
  const mend = /not permitted/.test(said) ? '; CAP_NET_ADMIN is needed' : '';
  return new LonglineError('unavailable', `${message}${mend}`);
}
