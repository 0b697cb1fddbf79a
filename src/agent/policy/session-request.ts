// A parsed session as policy sees it. What a session gets that asks for nothing is the ground that policy loosens: a network
// of its own, the user of its image, a root file system of its own to write to.
import type { SessionSpec } from '../../capabilities/sessions/session-spec.ts';
import type { SandboxRequest } from '../../core/policy/policy.ts';

/** What is allowed always on this host. */
export interface SessionGround {
  readonly user: string;
  readonly jobRuntime: string;
  readonly sessionRuntime: string;
  /** Network that sessions of mode SHARED are in. */
  readonly networkName: string;
}

/** The question that a session puts to the policy. Limits of jobs that sessions have no like of are asked at their least. */
export function sessionRequestOf(spec: SessionSpec, ground: SessionGround): SandboxRequest {
  const { network } = spec;
  const shared = spec.volumes.filter(({ scope }) => scope === 'shared');
  return {
    image: spec.image,
    network:
      network.mode === 'shared'
        ? { mode: 'named', name: ground.networkName }
        : network.mode === 'named'
          ? network
          : { mode: 'none', name: '' },
    user: spec.user === '' ? ground.user : spec.user,
    addCapabilities: spec.addCapabilities,
    runtime: spec.runtime === ground.sessionRuntime ? ground.jobRuntime : spec.runtime,
    writableRoot: false,
    newPrivileges: spec.allowNewPrivileges,
    mounts: [
      ...spec.mounts,
      ...shared.map(({ name, target, writable }) => ({ source: `longline-shared.${name}`, target, writable })),
    ],
    limits: {
      cpus: spec.cpus,
      memoryBytes: spec.memoryBytes,
      pids: spec.pids,
      tmpBytes: 1,
      timeoutMs: 1,
      outputBytes: 0,
      stopGraceMs: spec.stopGraceMs,
    },
  };
}
