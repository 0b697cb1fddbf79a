// The version of this program, from its package manifest.
import manifest from '../../package.json' with { type: 'json' };

/** Semver, for example "0.1.0". */
export const AGENT_VERSION: string = manifest.version;

/** Whether this program runs from its sources or from the bundle that `npm run build` makes. */
export const AGENT_BUILD: 'source' | 'bundle' = import.meta.filename.endsWith('.ts') ? 'source' : 'bundle';
