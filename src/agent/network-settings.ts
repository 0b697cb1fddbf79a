// The network part of the agent's settings. It resolves to what the network capability takes as its NetworkConfig; the defaults
// are the capability's own.
import { DEFAULT_NETWORK_CONFIG } from '../capabilities/network/config.ts';
import { setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';
import { BACKENDS } from '../core/network/network-spec.ts';
import { DEFAULT_DNSMASQ } from '../platform/dns/host-name-servers.ts';

const SECOND = 1000;
const NETWORK = 'WireGuard networks';
const base = DEFAULT_NETWORK_CONFIG;

/** Settings of networks. */
export const networkSettings = {
  backend: setting(type.oneOf(['auto', ...BACKENDS]), {
    key: 'network.backend',
    group: NETWORK,
    default: base.backend,
    description: "WireGuard of networks that don't say. auto: the kernel's if it works, else one in user space.",
  }),
  reconcileIntervalMs: setting(type.duration({ min: SECOND, max: 3600 * SECOND }), {
    key: 'network.reconcile_interval',
    group: NETWORK,
    default: base.reconcileIntervalMs,
    description: 'Longest time between two looks at an interface; what somebody changed on it is mended then.',
  }),
  controlSocket: setting(type.path(), {
    key: 'network.control_socket',
    group: NETWORK,
    example: '"/run/longline/network.sock"',
    defaultText: 'network.sock in the data folder',
    description: 'Unix socket on which applications ask for networks in JSON.',
  }),
  peerDetails: setting(type.int({ min: 0, max: 65_536 }), {
    key: 'network.peer_details',
    group: NETWORK,
    default: base.peerDetails,
    description: 'Peers of a network that are reported one by one, those in trouble first; figures are over all.',
  }),
  dnsmasqServersFile: setting(type.path(), {
    key: 'network.dnsmasq_servers_file',
    group: NETWORK,
    default: DEFAULT_DNSMASQ.serversFile,
    description: 'What a dnsmasq of this host was given as --servers-file, for networks with dns_backend = "dnsmasq".',
  }),
  dnsmasqPidFile: setting(type.path(), {
    key: 'network.dnsmasq_pid_file',
    group: NETWORK,
    default: DEFAULT_DNSMASQ.pidFile,
    description: 'What it was given as --pid-file. It is told by SIGHUP that the other file has changed.',
  }),
} as const;
