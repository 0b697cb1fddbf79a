// Picks what sets links, forwarding and translation on this system. Linux is proven for real; macOS and Windows only to the commands
// they are sent.
import type { Firewall, LinkDriver, Sysctls } from '../../capabilities/network/ports.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';
import { LinuxLinks } from './linux-links.ts';
import { MacosLinks } from './macos-links.ts';
import { NftFirewall } from './nft-firewall.ts';
import { NoFirewall, NoSysctls } from './no-forwarding.ts';
import { SysctlFiles } from './sysctls.ts';
import { WindowsLinks } from './windows-links.ts';

/** The adapters of one system. */
export interface HostRouting {
  readonly links: LinkDriver;
  readonly firewall: Firewall;
  readonly sysctls: Sysctls;
}

/** Those of a platform; throws `unsupported` for one that there are none for. */
export function hostRouting(run: RunCommand, platform: NodeJS.Platform = process.platform): HostRouting {
  const none = { firewall: new NoFirewall(), sysctls: new NoSysctls() };
  switch (platform) {
    case 'linux': {
      const sysctls = new SysctlFiles();
      return { links: new LinuxLinks(run, sysctls), firewall: new NftFirewall(run), sysctls };
    }
    case 'darwin':
      return { links: new MacosLinks(run), ...none };
    case 'win32':
      return { links: new WindowsLinks(run), ...none };
    default:
      throw new LonglineError('unsupported', `networks are to be had on Linux, macOS and Windows, not on ${platform}`);
  }
}
