// Paths of this host, with symbolic links resolved, for mount rules.
import { realpathSync } from 'node:fs';
import type { PathView } from '../../core/policy/mount-rules.ts';

/**
 * Looks at this host. `protectedPaths` are the agent's own files and folders and the engine's socket; they need not exist.
 * A path is resolved when it is asked for, so that links made since then count.
 */
export function hostPaths(protectedPaths: readonly string[]): PathView {
  return {
    resolve: resolveOrUndefined,
    get protectedPaths() {
      return protectedPaths.map((path) => resolveOrUndefined(path) ?? path);
    },
  };
}

function resolveOrUndefined(path: string): string | undefined {
  try {
    return realpathSync.native(path);
  } catch {
    // Missing, not readable or a loop: nothing that a rule could match.
    return undefined;
  }
}
