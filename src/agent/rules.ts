// What this host lets be done on it: trust and policy, opened together and read anew together.
import type { JobsConfig } from '../capabilities/jobs/config.ts';
import { describeError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { PathView } from '../core/policy/mount-rules.ts';
import { parseEngineAddress } from '../platform/docker/engine-address.ts';
import type { AuditLog } from './audit/audit-log.ts';
import type { AgentConfig } from './config.ts';
import type { DataFolder } from './data-folder.ts';
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
  ]) {
    if (path !== undefined) guarded.push(path);
  }
  const paths = hostPaths(guarded);
  const { user, runtime } = jobs.defaults;
  const policy = new PolicyStore(config.policyFile, { paths, defaultUser: user, defaultRuntime: runtime });
  await policy.load();
  const trust = new TrustStore({
    trustFile: { path: config.trustFile ?? folder.file('trust.toml'), required: config.trustFile !== undefined },
    enrollmentFile: config.enrollmentTrust ? folder.file(ENROLLMENT_TRUST_FILE) : undefined,
    enrollmentScopes: [],
  });
  await trust.load();
  return { trust, policy, paths };
}

/** Reads both anew; gives the files in force. A bad file is refused, recorded and thrown; then both old ones stay. */
export async function reloadRules(
  { policy, trust }: Rules,
  audit: Pick<AuditLog, 'note'>,
  log: Logger,
): Promise<readonly string[]> {
  try {
    const inForce = [await policy.read(), await trust.read()];
    for (const put of inForce) put();
  } catch (error) {
    const summary = { error: describeError(error).slice(0, 1024) };
    audit.note({ event: 'policy_reloaded', outcome: 'refused', summary });
    throw error;
  }
  const files = [...policy.files, ...trust.files];
  audit.note({ event: 'policy_reloaded', outcome: 'applied', summary: { files } });
  log.info('policy and trust were read anew', { files });
  return files;
}
