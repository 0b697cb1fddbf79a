// Mount sources come with all links resolved, as policy judged them. A job with a writable mount may have put a link in
// place of a folder since then, and engines follow links: so they are looked at again just before a container is made.
import { LonglineError } from '../../core/errors.ts';
import type { ContainerMount, HostPaths } from './ports.ts';

/** Throws `policy` if a host path leads elsewhere than it did when it was allowed. Volumes are left alone. */
export function checkMounts(mounts: readonly ContainerMount[], paths: HostPaths): void {
  for (const { source } of mounts) {
    if (!source.startsWith('/')) continue;
    const now = paths.resolve(source);
    if (now === source) continue;
    const message =
      now === undefined
        ? `mount source ${source} is gone`
        : `mount source ${source} was allowed, but leads to ${now} now; give a path without links`;
    throw new LonglineError('policy', message, { rule: 'mounts' });
  }
}
