// The version of this program, from its package manifest.
import { readFileSync } from 'node:fs';

/** Semver, for example "0.1.0". */
export const AGENT_VERSION: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { readonly version: string }
).version;
