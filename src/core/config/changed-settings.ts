// Settings that were changed while a program runs: which hold at once, and which at its next start only. Pure.
import type { Setting, SettingTable } from './setting.ts';
import { settingsOf } from './setting.ts';

/** A setting whose value is another. */
export interface ChangedSetting {
  readonly key: string;
  /** The new one, as TOML; secrets are not shown. Empty if it is unset now. */
  readonly value: string;
  /** True if it may hold at once. */
  readonly live: boolean;
}

/** A setting that was changed and keeps its old value. */
export interface RefusedSetting {
  readonly key: string;
  /** The value that it does not take. */
  readonly value: string;
  readonly reason: string;
}

/** Compares by content. What is undefined in `before` counts as the default. */
export function changedSettings(table: SettingTable, before: unknown, next: unknown): readonly ChangedSetting[] {
  return settingsOf(table).flatMap(({ setting, path }) => {
    const value = at(next, path);
    if (isSame(at(before, path) ?? setting.default, value)) return [];
    return [{ key: setting.key, value: textOf(setting, value), live: setting.live }];
  });
}

/** Those of the changed that have to wait. @param program "agent": whose start it takes. */
export function refusedSettings(changed: readonly ChangedSetting[], program: string): readonly RefusedSetting[] {
  const reason = `it takes effect at the next start of the ${program} only`;
  return changed.filter(({ live }) => !live).map(({ key, value }) => ({ key, value, reason }));
}

/** An object whose values are those of what `current` gives when they are read; it must not be copied. */
export function liveView<T extends object>(current: () => T): T {
  const view = {};
  for (const key of Object.keys(current()) as (keyof T)[]) {
    Object.defineProperty(view, key, { enumerable: true, get: () => current()[key] });
  }
  return Object.freeze(view) as T;
}

function textOf({ type }: Setting<unknown>, value: unknown): string {
  return value === undefined ? '' : type.toToml(value);
}

function at(config: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, name) => (value as Record<string, unknown> | undefined)?.[name], config);
}

/** By content; secrets by what they hide. */
function isSame(before: unknown, after: unknown): boolean {
  const plain = (value: unknown) =>
    typeof value === 'object' && value !== null && 'reveal' in value ? (value.reveal as () => string)() : value;
  return JSON.stringify(plain(before)) === JSON.stringify(plain(after));
}
