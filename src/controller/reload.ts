// Settings of a controller that were changed while it runs: which hold at once, and which at the next start only.
import type { ControllerConfig } from './config.ts';

/** Names of settings, as in `ControllerConfig`. */
export interface ConfigChanges {
  readonly applied: readonly string[];
  readonly refused: readonly string[];
}

/** What can be taken over at once. */
const LIVE: ReadonlySet<string> = new Set<keyof ControllerConfig>(['logLevel']);

/** Compares by content. */
export function changesOf(before: ControllerConfig, next: ControllerConfig): ConfigChanges {
  const names = Object.keys(next) as (keyof ControllerConfig)[];
  const changed = names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(next[name]));
  return { applied: changed.filter((name) => LIVE.has(name)), refused: changed.filter((name) => !LIVE.has(name)) };
}
