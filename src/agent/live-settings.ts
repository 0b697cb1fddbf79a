// The agent's settings while it runs: what may change under way, and what would need a new start. Read anew together with
// policy and trust; what can't change keeps its old value, and is told with the reason.
import type { JobsConfig } from '../capabilities/jobs/config.ts';
import { settingsOf } from '../core/config/setting.ts';
import { type AgentConfig, agentConfig } from './config.ts';
import { jobsConfigOf } from './jobs-setup.ts';

/** Keys of settings that take effect at once; of `jobs.max_…` those that bound a single job. */
const LIVE =
  /^(log_level|log_parts|allowed_controllers|jobs\.allowed_images|jobs\.default_\w+|jobs\.max_(?!concurrent|queued)\w+)$/;

/** A setting that was changed and keeps its old value. */
export interface RefusedSetting {
  readonly key: string;
  readonly reason: string;
}

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
    this.jobs = this.#view();
  }

  /** The settings in force. */
  get config(): AgentConfig {
    return this.#config;
  }

  /** Reads them anew and changes nothing yet. Throws if any is wrong. */
  async read(): Promise<SettingChanges> {
    const next = await this.#read();
    const jobs = jobsConfigOf(next);
    const applied: string[] = [];
    const refused: RefusedSetting[] = [];
    for (const { setting, path } of settingsOf(agentConfig.table)) {
      if (same(at(this.#config, path), at(next, path))) continue;
      if (LIVE.test(setting.key)) applied.push(setting.key);
      else refused.push({ key: setting.key, reason: 'it takes effect at the next start of the agent only' });
    }
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

  #view(): JobsConfig {
    const view = {};
    for (const key of Object.keys(this.#jobs) as (keyof JobsConfig)[]) {
      Object.defineProperty(view, key, { enumerable: true, get: () => this.#jobs[key] });
    }
    return Object.freeze(view) as JobsConfig;
  }
}

function at(config: AgentConfig, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, name) => (value as Record<string, unknown>)[name], config);
}

/** By content; secrets by what they hide. */
function same(before: unknown, after: unknown): boolean {
  const plain = (value: unknown) =>
    typeof value === 'object' && value !== null && 'reveal' in value ? (value.reveal as () => string)() : value;
  return JSON.stringify(plain(before)) === JSON.stringify(plain(after));
}
