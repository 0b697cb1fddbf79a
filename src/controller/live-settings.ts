// A controller's settings while it runs: what may change under way, and what would need a new start. They are read anew as a whole, or not
// at all; what can't change keeps its old value.
import { changedSettings, liveView, type RefusedSetting, refusedSettings } from '../core/config/changed-settings.ts';
import { type ControllerConfig, type ControllerOptions, compileControllerOptions, type KeepOptions } from './config.ts';
import { controllerConfig } from './settings.ts';

/** Changes that were read and hold once `put` is called. */
export interface ControllerChanges {
  /** Keys whose new value holds then. */
  readonly applied: readonly string[];
  readonly refused: readonly RefusedSetting[];
  put(): void;
}

/** One per controller. */
export class LiveControllerSettings {
  /** What it gives changes with a reload, so it must not be copied. */
  readonly keep: KeepOptions;
  #options: ControllerOptions;
  #config: ControllerConfig;

  /** Throws `invalid` that lists everything wrong with them. */
  constructor(options: ControllerOptions) {
    this.#options = options;
    this.#config = compileControllerOptions(options);
    this.keep = liveView(() => this.#config.keep);
  }

  /** Those in force. */
  get config(): ControllerConfig {
    return this.#config;
  }

  /** Checks others and changes nothing yet. Throws `invalid` if any is wrong. @param logLevel in force, whoever set it. */
  changes(next: ControllerOptions, logLevel: ControllerConfig['logLevel']): ControllerChanges {
    const compiled = compileControllerOptions(next);
    const changed = changedSettings(controllerConfig.table, { ...this.#options, logLevel }, next);
    return {
      applied: changed.filter(({ live }) => live).map(({ key }) => key),
      refused: refusedSettings(changed, 'controller'),
      put: () => this.#put(next, compiled),
    };
  }

  #put(next: ControllerOptions, { logLevel, drainWindowMs, allowedOrigins, keep }: ControllerConfig): void {
    this.#options = { ...this.#options, logLevel, drainWindowMs, allowedOrigins, keep: next.keep ?? {} };
    this.#config = Object.freeze({ ...this.#config, logLevel, drainWindowMs, allowedOrigins, keep });
  }
}
