// The ways in which name servers are made known on this system, in the order in which they are preferred.
import type { NameServers, StoredRecord } from '../../capabilities/network/ports.ts';
import type { RunCommand } from '../../core/command.ts';
import { DnsmasqNameServers, type DnsmasqPlace } from './dnsmasq.ts';
import { NetshNameServers } from './netsh.ts';
import { ResolvFile, type ResolvFileRecord } from './resolv-file.ts';
import { ResolvconfNameServers } from './resolvconf.ts';
import { ResolvedNameServers } from './resolved.ts';
import { ScutilNameServers } from './scutil.ts';

/** Where a dnsmasq of the host is looked for unless the configuration says otherwise. */
export const DEFAULT_DNSMASQ: DnsmasqPlace = {
  serversFile: '/run/longline/dnsmasq.servers',
  pidFile: '/run/dnsmasq/dnsmasq.pid',
};

/** What the ways need. */
export interface NameServerParts {
  readonly run: RunCommand;
  /** Of the edit of resolv.conf. */
  readonly record: StoredRecord<ResolvFileRecord>;
  readonly dnsmasq: DnsmasqPlace;
  readonly platform?: NodeJS.Platform;
}

/** Empty on a system for which there is none. */
export function hostNameServers({ run, record, dnsmasq, ...parts }: NameServerParts): readonly NameServers[] {
  switch (parts.platform ?? process.platform) {
    case 'linux': {
      const ways = [new ResolvedNameServers(run), new ResolvconfNameServers(run), new ResolvFile(record)];
      return [...ways, new DnsmasqNameServers(dnsmasq)];
    }
    case 'darwin':
      return [new ScutilNameServers(run)];
    case 'win32':
      return [new NetshNameServers(run)];
    default:
      return [];
  }
}
