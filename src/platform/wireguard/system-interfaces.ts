// The WireGuard interfaces of whatever system this is. What `docs` say of each: Linux is proven for real with wireguard-go.
import type { WireguardInterfaces } from '../../capabilities/network/ports.ts';
import type { StateStore } from '../../core/capability.ts';
import type { RunCommand } from '../../core/command.ts';
import { BORINGTUN_CLI, WIREGUARD_GO } from './daemon-program.ts';
import { daemonUser } from './daemon-user.ts';
import { KernelBackend } from './kernel.ts';
import { LinuxInterfaces } from './linux-interfaces.ts';
import { LinuxLinks } from './linux-links.ts';
import { linuxDaemonHost, UserSpaceBackend } from './user-space.ts';

/** What interfaces are made with. */
export interface SystemParts {
  readonly run: RunCommand;
  readonly state: StateStore;
  /** Of the agent; what it makes carries it, so it has to stay the same from start to start. */
  readonly instanceId: string;
  /** A folder that is there, of mode 700: daemons write their logs into it. */
  readonly logFolder: string;
}

/** The interfaces of this host. */
export function systemInterfaces({ instanceId, logFolder, run, state }: SystemParts): WireguardInterfaces {
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
