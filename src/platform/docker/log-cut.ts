// Finds out whether an engine has dropped the beginning of a container's log. No API tells, and recovery by byte offset
// from a log without its beginning would silently give wrong bytes; the engine's files tell, where they can be seen.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { LonglineError } from '../../core/errors.ts';
import { LAST_LOG_SUFFIX } from './container-config.ts';
import { containerFacts, type RawContainer } from './container-facts.ts';

/** Checks one container's log. */
export interface LogCut {
  /** Throws `wrong_state` if output was dropped. Costs one stat; never throws if the files can't be seen from here. */
  check(): void;
}

/** @param engineRoot the engine's data folder on its host; undefined if the engine is on another host. */
export function logCut(raw: RawContainer, engineRoot: string | undefined): LogCut {
  const dropped = engineRoot === undefined ? () => false : probe(raw, engineRoot);
  return {
    check: () => {
      if (!dropped()) return;
      throw new LonglineError(
        'wrong_state',
        `the container engine dropped the beginning of the output of container ${raw.Id.slice(0, 12)}: it is more than is kept`,
      );
    },
  };
}

/** The `local` driver's current file; undefined if it can't be seen from here. */
export function localLogFile(raw: RawContainer, engineRoot: string | undefined): string | undefined {
  if (engineRoot === undefined) return undefined;
  const path = join(engineRoot, 'containers', raw.Id, 'local-logs', 'container.log');
  return statSync(path, { throwIfNoEntry: false }) === undefined ? undefined : path;
}

/** Podman's k8s-file log; undefined if it can't be seen from here. */
export function k8sLogFile(raw: RawContainer, engineRoot: string | undefined): string | undefined {
  if (engineRoot === undefined || !isK8sLog(raw)) return undefined;
  return statSync(raw.LogPath!, { throwIfNoEntry: false }) === undefined ? undefined : raw.LogPath;
}

/** Podman's compatible API gives the driver a name of Docker's; its k8s-file is known by its path. */
function isK8sLog(raw: RawContainer): boolean {
  return raw.LogPath?.endsWith('/ctr.log') ?? false;
}

function probe(raw: RawContainer, engineRoot: string): () => boolean {
  const driver = raw.HostConfig?.LogConfig?.Type;
  if (driver === 'local') {
    const oldest = join(engineRoot, 'containers', raw.Id, 'local-logs', `container.log${LAST_LOG_SUFFIX}`);
    return () => statSync(oldest, { throwIfNoEntry: false }) !== undefined;
  }
  const startedAtMs = containerFacts(raw).startedAtMs;
  if (isK8sLog(raw) && startedAtMs !== undefined) {
    // conmon makes the file before the start, and a new one whenever it drops the old.
    return () => (statSync(raw.LogPath!, { throwIfNoEntry: false })?.birthtimeMs ?? 0) > startedAtMs;
  }
  return () => false;
}
