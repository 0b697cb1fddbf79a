// From a SessionContainerSpec to the body of a create request. What isn't in the spec is closed: no capabilities, no
// restart by the engine, the image's health checks off, and never removed by the engine itself. Pure.
import type { SessionContainerSpec, SessionMountPoint } from '../../capabilities/sessions/ports.ts';

/** Rotated files that Docker keeps; the bound is shared out among them. */
const LOG_FILES = 4;

/** Body of POST /containers/create. */
export function sessionBody(spec: SessionContainerSpec, kind: 'docker' | 'podman'): object {
  const { network } = spec;
  return {
    Image: spec.image,
    ...(spec.entrypoint === undefined ? {} : { Entrypoint: spec.entrypoint }),
    ...(spec.command === undefined ? {} : { Cmd: spec.command }),
    Env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
    ...(spec.workingDir === '' ? {} : { WorkingDir: spec.workingDir }),
    ...(spec.user === '' ? {} : { User: spec.user }),
    ...(spec.stopSignal === '' ? {} : { StopSignal: spec.stopSignal }),
    Hostname: spec.hostname,
    Labels: spec.labels,
    Tty: spec.terminal,
    OpenStdin: spec.openStdin,
    // Whoever attaches last must not take the input of those who come after.
    StdinOnce: false,
    AttachStdin: false,
    AttachStdout: true,
    AttachStderr: true,
    Healthcheck: { Test: ['NONE'] },
    ...(network === undefined ? {} : { NetworkingConfig: { EndpointsConfig: { [network]: {} } } }),
    HostConfig: {
      NetworkMode: network ?? 'none',
      NanoCpus: Math.round(spec.cpus * 1e9),
      Memory: spec.memoryBytes,
      MemorySwap: spec.memoryBytes,
      PidsLimit: spec.pids,
      ShmSize: spec.shmBytes,
      IpcMode: 'private',
      CapDrop: ['ALL'],
      CapAdd: spec.addCapabilities,
      SecurityOpt: spec.noNewPrivileges ? ['no-new-privileges'] : [],
      ReadonlyRootfs: spec.readOnlyRoot,
      Mounts: spec.mounts.map(mountBody),
      ...(spec.runtime === '' ? {} : { Runtime: spec.runtime }),
      RestartPolicy: { Name: 'no' },
      AutoRemove: false,
      LogConfig: logConfig(spec.keepLogBytes, kind),
    },
  };
}

function logConfig(keepBytes: number, kind: 'docker' | 'podman'): object {
  if (kind === 'podman') return { Type: 'k8s-file', Config: { 'max-size': String(keepBytes) } };
  const config = { 'max-size': String(Math.ceil(keepBytes / LOG_FILES)), 'max-file': String(LOG_FILES) };
  return { Type: 'local', Config: { ...config, compress: 'false' } };
}

function mountBody(mount: SessionMountPoint): object {
  const type = mount.kind === 'folder' ? 'bind' : 'volume';
  return { Type: type, Source: mount.source, Target: mount.target, ReadOnly: !mount.writable };
}
