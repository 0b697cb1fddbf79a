// The programs that are WireGuard in user space: where they are, how each is started, and what it has to be left. Linux only.
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { InterfaceRequest } from '../../capabilities/network/ports.ts';
import type { TunFormat } from './daemon-descriptors.ts';
import type { DaemonPlan } from './daemon-plan.ts';

const CAP_NET_BIND_SERVICE = 10;
const CAP_NET_ADMIN = 12;
const FIRST_FREE_PORT = 1024;
const LOG_LIMIT_BYTES = 1024 * 1024;
const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** Who a daemon runs as that needs nothing else: a number that neither Debian nor systemd gives to anybody. */
export const DAEMON_USER = { uid: 65_527, gid: 65_527 } as const;

/** How a program is to be started. */
export interface DaemonProgram {
  readonly name: string;
  /** Where it is looked for in place of where programs of the system are. */
  readonly folders?: readonly string[];
  /** True: it takes its TUN device and its socket as descriptors, and then needs no privileges to start. */
  readonly takesDescriptors: boolean;
  format(path: string): Promise<TunFormat>;
  /** Capabilities that it has to keep to do what is asked for. */
  capabilities(request: InterfaceRequest): readonly number[];
  plan(path: string, name: string, capabilities: readonly number[], user: DaemonPlan['user']): DaemonPlan;
}

/** wireguard-go: takes descriptors, so it runs as nobody else and with nothing but the mark or the low port it has to set. */
export const WIREGUARD_GO: DaemonProgram = {
  name: 'wireguard-go',
  takesDescriptors: true,
  // Since March 2023 it wants packets without their protocol and with offloads. The version doesn't tell: it stayed the same
  // for two years. A method of that code is named in every build that has it.
  format: async (path) => ((await readFile(path)).includes('virtioNetHdr') ? 'offloaded' : 'with-protocol'),
  capabilities: ({ fwmark, listenPort = FIRST_FREE_PORT }) => [
    ...(listenPort < FIRST_FREE_PORT ? [CAP_NET_BIND_SERVICE] : []),
    ...(fwmark === 0 ? [] : [CAP_NET_ADMIN]),
  ],
  plan: (program, name, capabilities, user) => ({
    program,
    args: ['-f', name],
    environment: ['LOG_LEVEL=error', 'WG_TUN_FD=3', 'WG_UAPI_FD=4'],
    user,
    capabilities,
    descriptors: [3, 4],
    feignMtu: true,
    logLimitBytes: LOG_LIMIT_BYTES,
  }),
};

/**
 * boringtun: the descriptor that it takes for a socket is a single connection, and with one for the TUN device it forgets the
 * interface's name; so it opens both itself, as who starts it and with CAP_NET_ADMIN alone.
 */
export const BORINGTUN_CLI: DaemonProgram = {
  name: 'boringtun-cli',
  takesDescriptors: false,
  format: async () => 'several-queues',
  capabilities: ({ listenPort = FIRST_FREE_PORT }) => [
    ...(listenPort < FIRST_FREE_PORT ? [CAP_NET_BIND_SERVICE] : []),
    CAP_NET_ADMIN,
  ],
  plan: (program, name, capabilities) => ({
    program,
    args: ['--foreground', '--disable-drop-privileges', '--verbosity', 'error', name],
    environment: [],
    user: undefined,
    capabilities,
    descriptors: [],
    feignMtu: false,
    logLimitBytes: LOG_LIMIT_BYTES,
  }),
};

/** Path of a program; undefined if it isn't where programs of the system are. */
export async function findProgram(name: string, folders: readonly string[] = FOLDERS): Promise<string | undefined> {
  for (const folder of folders) {
    const path = join(folder, name);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}
