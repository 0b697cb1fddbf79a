// The agent's settings while it runs: what may change under way, and what would need a new start. Read anew together with
// policy and trust; what can't change keeps its old value, and is told with the reason.
import type { JobsConfig } from '../capabilities/jobs/config.ts';
import { changedSettings, liveView, type RefusedSetting, refusedSettings } from '../core/config/changed-settings.ts';
import { type AgentConfig, agentConfig } from './config.ts';
import { jobsConfigOf } from './jobs-setup.ts';

/** Changes that were read and hold once `put` is called. */
export interface SettingChanges {
  /** Keys whose new value holds then. */
  readonly applied: readonly string[];
  readonly refused: readonly RefusedSetting[];
  put(): void;
}

/** One per agent. */
export class LiveSettings {
  /** The bounds of jobs; what it gives changes with a reload, so it must not be copied. */
  readonly jobs: JobsConfig;
  readonly #read: () => Promise<AgentConfig>;
  readonly #setLog: (log: AgentConfig['log']) => void;
  #config: AgentConfig;
  #jobs: JobsConfig;

  /** @param read reads file, flags and environment anew; throws `invalid` with everything that is wrong. */
  constructor(config: AgentConfig, read: () => Promise<AgentConfig>, setLog: (log: AgentConfig['log']) => void) {
    this.#config = config;
    this.#read = read;
    this.#setLog = setLog;
    this.#jobs = jobsConfigOf(config);
    this.jobs = liveView(() => this.#jobs);
  }

  /** The settings in force. */
  get config(): AgentConfig {
    return this.#config;
  }

  /** Reads them anew and changes nothing yet. Throws if any is wrong. */
  async read(): Promise<SettingChanges> {
    const next = await this.#read();
    const jobs = jobsConfigOf(next);
    const changed = changedSettings(agentConfig.table, this.#config, next);
    const applied = changed.filter(({ live }) => live).map(({ key }) => key);
    const refused = refusedSettings(changed, 'agent');
    return { applied, refused, put: () => this.#put(next, jobs) };
  }

  #put(next: AgentConfig, jobs: JobsConfig): void {
    const { allowedImages, defaults, limits } = next.jobs;
    const { allowedControllers, log } = next;
    const kept = this.#config;
    this.#config = Object.freeze({
      ...kept,
      ...{ allowedControllers, log },
      jobs: Object.freeze({ ...kept.jobs, allowedImages, defaults, limits }),
    });
    this.#jobs = { ...this.#jobs, allowedImages, defaults, limits, imagePatterns: jobs.imagePatterns };
    this.#setLog(log);
  }
}
