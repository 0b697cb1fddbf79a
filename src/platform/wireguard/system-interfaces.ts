// The WireGuard interfaces of whatever system this is. Linux is proven for real with wireguard-go and, where a kernel has it, with
// the kernel's; macOS and Windows to the commands and bytes that they would send.
import type { WireguardInterfaces } from '../../capabilities/network/ports.ts';
import type { StateStore } from '../../core/capability.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';
import { DaemonInterfaces } from './daemon-interfaces.ts';
import { BORINGTUN_CLI, WIREGUARD_GO } from './daemon-program.ts';
import { daemonUser } from './daemon-user.ts';
import { hostProcesses } from './host-processes.ts';
import { KernelBackend } from './kernel.ts';
import { LinuxInterfaces } from './linux-interfaces.ts';
import { LinuxLinks } from './linux-links.ts';
import { MacosDaemons } from './macos-daemons.ts';
import { linuxDaemonHost, UserSpaceBackend } from './user-space.ts';
import { WindowsDaemons } from './windows-daemons.ts';

/** What interfaces are made with. */
export interface SystemParts {
  readonly run: RunCommand;
  readonly state: StateStore;
  /** Of the agent; what it makes carries it, so it has to stay the same from start to start. */
  readonly instanceId: string;
  /** A folder that is there, of mode 700: daemons write their logs into it, and on macOS the names of their interfaces. */
  readonly logFolder: string;
}

/** The interfaces of this host. */
export function systemInterfaces(parts: SystemParts, platform = process.platform): WireguardInterfaces {
  const { logFolder: folder, run, state } = parts;
  const processes = hostProcesses;
  if (platform === 'darwin')
    return new DaemonInterfaces({ state, system: new MacosDaemons({ run, processes, folder }) });
  if (platform === 'win32') return new DaemonInterfaces({ state, system: new WindowsDaemons({ run, processes }) });
  if (platform === 'linux') return linuxInterfaces(parts);
  throw new LonglineError('unsupported', `no WireGuard is known for ${platform}; it runs on Linux, macOS and Windows`);
}

function linuxInterfaces({ instanceId, logFolder, run, state }: SystemParts): WireguardInterfaces {
  const links = new LinuxLinks(run);
  const label = `longline:${instanceId}`;
  const shared = { links, label, logFolder, user: daemonUser(), host: linuxDaemonHost };
  return new LinuxInterfaces({
    backends: [
      new KernelBackend({ links, label }),
      new UserSpaceBackend('wireguard-go', { ...shared, program: WIREGUARD_GO }),
      new UserSpaceBackend('boringtun', { ...shared, program: BORINGTUN_CLI }),
    ],
    links,
    label,
    state,
  });
}
