// A parsed session as policy sees it: what it asks for beyond the ground that every session stands on.
import type { SessionsConfig } from '../../capabilities/sessions/config.ts';
import type { SessionSpec } from '../../capabilities/sessions/session-spec.ts';
import type { SessionRequest } from '../../core/policy/session-policy.ts';

/** The question that a session puts to the policy. What is the host's own default counts as asked for by nobody. */
export function sessionRequestOf(
  spec: SessionSpec,
  host: Pick<SessionsConfig, 'runtime' | 'volumeDriver'>,
): SessionRequest {
  const { network } = spec;
  // With options even the host's own driver reaches further: "local" can mount any folder of the host.
  const beyond = spec.volumes.filter(
    ({ driver, options }) => driver !== host.volumeDriver || Object.keys(options).length > 0,
  );
  const drivers = new Set(beyond.map(({ driver }) => driver));
  return {
    image: spec.image,
    network: network.mode === 'named' ? network : { mode: network.mode, name: '' },
    user: spec.user,
    addCapabilities: spec.addCapabilities,
    runtime: spec.runtime === host.runtime ? '' : spec.runtime,
    newPrivileges: spec.allowNewPrivileges,
    mounts: spec.mounts,
    sharedVolumes: spec.volumes.filter(({ scope }) => scope === 'shared').map(({ name }) => name),
    volumeDrivers: [...drivers].sort(),
    limits: {
      cpus: spec.cpus,
      memoryBytes: spec.memoryBytes,
      pids: spec.pids,
      shmBytes: spec.shmBytes,
      lifetimeMs: spec.lifetimeMs,
    },
  };
}
