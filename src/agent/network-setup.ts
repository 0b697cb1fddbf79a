// The network capability on this host: which drivers it gets, and under which names its keys may stand in the environment.
import { fromBinary } from '@bufbuild/protobuf';
import { NetworkTelemetrySchema } from '#gen/longline/v1/network_pb.js';
import { NetworkCapability } from '../capabilities/network/capability.ts';
import type { NetworkConfig } from '../capabilities/network/config.ts';
import type { EnvironmentKey } from '../capabilities/network/keys.ts';
import type { NetworkReports, NetworkSystem } from '../capabilities/network/ports.ts';
import type { StateStore } from '../core/capability.ts';
import { storedRecord } from '../core/stored-record.ts';
import type { Tracer } from '../core/tracer.ts';
import type { Link } from '../link/link.ts';
import type { DnsmasqPlace } from '../platform/dns/dnsmasq.ts';
import { DEFAULT_DNSMASQ, hostNameServers } from '../platform/dns/host-name-servers.ts';
import { NO_RESOLV_FILE } from '../platform/dns/resolv-file.ts';
import { childCommands } from '../platform/process/child-command.ts';
import { hostRouting } from '../platform/routes/host-routing.ts';
import { KeyFiles } from '../platform/wireguard/key-files.ts';
import { LockedMemory } from '../platform/wireguard/locked-memory.ts';
import { NameResolver } from '../platform/wireguard/name-resolver.ts';
import { systemInterfaces } from '../platform/wireguard/system-interfaces.ts';
import type { DataFolder } from './data-folder.ts';
import { OwnKeyFolder } from './network/own-keys.ts';
import { readGuardedFile } from './trust/guarded-file.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What the capability needs of the process around it. */
export interface NetworkSetup {
  readonly folder: DataFolder;
  readonly config: NetworkConfig;
  readonly environment: Environment;
  readonly reports: NetworkReports;
  readonly tracer?: Tracer;
  /** Where a dnsmasq of the host is. */
  readonly dnsmasq?: DnsmasqPlace;
}

/** The capability on this host. */
export function openNetworks(setup: NetworkSetup): NetworkCapability {
  const { config, environment, reports, tracer } = setup;
  return new NetworkCapability({
    systemOn: (state) => networkSystem(state, setup),
    environmentKey: environmentKeys(environment),
    reports,
    tracer,
    config,
  });
}

/** Figures as the link takes them. */
export function networkReports(link: () => Link | undefined): NetworkReports {
  return {
    measured: (telemetry) => link()?.networkTelemetry([fromBinary(NetworkTelemetrySchema, telemetry)]),
  };
}

function networkSystem(
  state: StateStore,
  { folder, environment, dnsmasq = DEFAULT_DNSMASQ }: NetworkSetup,
): NetworkSystem {
  // The one folder that an agent can always write to.
  const run = childCommands(folder.path);
  const readSecret = (path: string) => readGuardedFile(path, { what: 'key file', secret: true });
  const keys = new KeyFiles({ readSecret, environment, memory: new LockedMemory() });
  return {
    ...hostRouting(run),
    interfaces: systemInterfaces({ run, state, instanceId: folder.instanceId, logFolder: folder.path }),
    nameServers: hostNameServers({ run, dnsmasq, record: storedRecord(state, 'resolv-file', NO_RESOLV_FILE) }),
    keys,
    ownKeys: new OwnKeyFolder(folder.file('network-keys'), keys),
    resolver: new NameResolver(),
  };
}

/** LONGLINE_NETWORK_<NAME>_PRIVATE_KEY holds the first key of a network; what is no letter or digit in its name is "_" there. */
function environmentKeys(environment: Environment): EnvironmentKey {
  return (network) => {
    const name = `LONGLINE_NETWORK_${network.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}_PRIVATE_KEY`;
    return environment[name] ? `env:${name}` : undefined;
  };
}
