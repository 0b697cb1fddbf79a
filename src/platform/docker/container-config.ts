// From a ContainerSpec to the body of a create request. Everything that isn't in the spec is closed: no capabilities, no
// privileges to gain, no IPC, swap or restart, the image's health checks off, and never removed by the engine itself,
// because output and exit must be safe first. Pure.
import type { ContainerMount, ContainerSpec } from '../../capabilities/jobs/ports.ts';

/**
 * Docker's `local` log takes about 28 bytes a line beside the line, podman's k8s-file about 45. So it may take 8 times the
 * bytes that it must keep: enough for lines of 4 bytes or more (podman: 6). But no more than twice those bytes and a fixed
 * share, or tiny lines would fill the disk of whoever allows much output. What is cut all the same is found by LogCut.
 */
const LOG_FACTOR = 8;
const LOG_SLACK_BYTES = 1024 * 1024;
const LOG_SHARE_BYTES = 256 * 1024 * 1024;

/** Suffix of Docker's oldest log file: while it doesn't exist nothing was dropped. */
export const LAST_LOG_SUFFIX = `.${LOG_FACTOR}`;

/** Body of POST /containers/create. */
export function createBody(spec: ContainerSpec, kind: 'docker' | 'podman'): object {
  return {
    Image: spec.image,
    Entrypoint: spec.argv,
    Cmd: [],
    Env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
    ...(spec.workingDir === '' ? {} : { WorkingDir: spec.workingDir }),
    User: spec.user,
    Labels: spec.labels,
    Tty: false,
    AttachStdin: spec.openStdin,
    AttachStdout: true,
    AttachStderr: true,
    OpenStdin: spec.openStdin,
    StdinOnce: spec.openStdin,
    Healthcheck: { Test: ['NONE'] },
    HostConfig: {
      NetworkMode: spec.network.mode === 'named' ? spec.network.name : spec.network.mode,
      NanoCpus: Math.round(spec.cpus * 1e9),
      Memory: spec.memoryBytes,
      MemorySwap: spec.memoryBytes,
      PidsLimit: spec.pids,
      IpcMode: 'none',
      CapDrop: ['ALL'],
      CapAdd: spec.addCapabilities,
      SecurityOpt: spec.noNewPrivileges ? ['no-new-privileges'] : [],
      ReadonlyRootfs: spec.readOnlyRoot,
      Tmpfs: Object.fromEntries(
        ['/tmp', ...(spec.tmpFolders ?? [])].map((folder) => [
          folder,
          `rw,noexec,nosuid,nodev,mode=1777,size=${spec.tmpBytes}`,
        ]),
      ),
      Mounts: spec.mounts.map(mountBody),
      ...(spec.runtime === '' ? {} : { Runtime: spec.runtime }),
      RestartPolicy: { Name: 'no' },
      AutoRemove: false,
      LogConfig: logConfig(spec.keepLogBytes, kind),
    },
  };
}

function logConfig(keepLogBytes: number, kind: 'docker' | 'podman'): object {
  const mostBytes = 2 * keepLogBytes + LOG_SHARE_BYTES;
  const wantedBytes = keepLogBytes + LOG_SLACK_BYTES;
  // json-file would change bytes that aren't UTF-8; podman has no `local`, and drops all it has at max-size.
  if (kind === 'podman') {
    return { Type: 'k8s-file', Config: { 'max-size': String(Math.min(LOG_FACTOR * wantedBytes, mostBytes)) } };
  }
  const fileBytes = Math.min(wantedBytes, Math.floor(mostBytes / (LOG_FACTOR + 1)));
  const config = { 'max-size': String(fileBytes), 'max-file': String(LOG_FACTOR + 1), compress: 'false' };
  return { Type: 'local', Config: config };
}

function mountBody(mount: ContainerMount): object {
  const type = mount.source.startsWith('/') ? 'bind' : 'volume';
  return { Type: type, Source: mount.source, Target: mount.target, ReadOnly: !mount.writable };
}
