// What this host lets be done on it: trust and policy, opened together and read anew together.
import type { JobsConfig } from '../capabilities/jobs/config.ts';
import type { RefusedSetting } from '../core/config/changed-settings.ts';
import { describeError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { PathView } from '../core/policy/mount-rules.ts';
import { parseEngineAddress } from '../platform/docker/engine-address.ts';
import type { AuditLog } from './audit/audit-log.ts';
import type { AgentConfig } from './config.ts';
import type { DataFolder } from './data-folder.ts';
import type { LiveSettings, SettingChanges } from './live-settings.ts';
import { hostPaths } from './policy/host-paths.ts';
import { PolicyStore } from './policy/policy-store.ts';
import { ENROLLMENT_TRUST_FILE } from './trust/enrollment-trust.ts';
import { TrustStore } from './trust/trust-store.ts';

/** Trust and policy in force, with the view of paths that mount rules are judged by. */
export interface Rules {
  readonly trust: TrustStore;
  readonly policy: PolicyStore;
  readonly paths: PathView;
}

/** Reads both. Throws if a file is missing, loose or wrong: the agent must not start on less than it was told. */
export async function openRules(config: AgentConfig, folder: DataFolder, jobs: JobsConfig): Promise<Rules> {
  const engine = parseEngineAddress(config.dockerHost);
  // Who may mount these into a job owns the host.
  const guarded = [folder.path, ...(engine.kind === 'unix' ? [engine.socketPath] : [])];
  for (const path of [
    config.policyFile,
    config.trustFile,
    config.jobs.credentialsFile,
    config.caFile,
    config.localSocket,
    config.ha.lockFile,
    config.network.controlSocket,
    ...config.programs.keys.files,
    config.programs.registry.keyFile,
    config.programs.nats.keyFile,
    config.programs.nats.credentialsFile,
  ]) {
    if (path !== undefined) guarded.push(path);
  }
  const paths = hostPaths(guarded);
  const policy = new PolicyStore(config.policyFile, {
    paths,
    // Read when they are asked for: a reload may change them.
    get defaultUser() {
      return jobs.defaults.user;
    },
    get defaultRuntime() {
      return jobs.defaults.runtime;
    },
  });
  await policy.load();
  const trust = new TrustStore({
    trustFile: { path: config.trustFile ?? folder.file('trust.toml'), required: config.trustFile !== undefined },
    enrollmentFile: config.enrollmentTrust ? folder.file(ENROLLMENT_TRUST_FILE) : undefined,
    enrollmentScopes: [],
  });
  await trust.load();
  return { trust, policy, paths };
}

/** What a reload did. */
export interface Reloaded {
  /** Files of policy and trust in force. */
  readonly files: readonly string[];
  /** Keys of settings whose new value is in force. */
  readonly settings: readonly string[];
  /** Settings that were changed and keep their old value. */
  readonly refused: readonly RefusedSetting[];
}

/**
 * Reads them anew when it is called, one call after the other: of two at once the later must not put older files in force.
 * @param after hears of each reload that changed what is in force.
 */
export function reloader(reload: () => Promise<Reloaded>, after: () => void): () => Promise<Reloaded> {
  let last: Promise<unknown> = Promise.resolve();
  return async () => {
    const mine = last.then(reload);
    last = mine.catch(() => undefined);
    const reloaded = await mine;
    after();
    return reloaded;
  };
}

/** Reads settings, policy and trust anew. If any of it is bad, that is recorded and thrown, and all stays as it was. */
export async function reloadRules(
  { policy, trust }: Rules,
  settings: Pick<LiveSettings, 'read'>,
  audit: Pick<AuditLog, 'note'>,
  log: Logger,
): Promise<Reloaded> {
  let changes: SettingChanges;
  try {
    changes = await settings.read();
    const inForce = [await policy.read(), await trust.read()];
    for (const put of inForce) put();
    changes.put();
  } catch (error) {
    const summary = { error: describeError(error).slice(0, 1024) };
    audit.note({ event: 'policy_reloaded', outcome: 'refused', summary });
    throw error;
  }
  const { applied, refused } = changes;
  const files = [...policy.files, ...trust.files];
  audit.note({ event: 'policy_reloaded', outcome: 'applied', summary: { files, settings: applied } });
  for (const { key, value, reason } of refused)
    log.warn('a changed setting keeps its old value', { key, value, reason });
  log.info('policy and trust were read anew', { files, settings: applied });
  return { files, settings: applied, refused };
}
