// Asks a policy about a command. Every rule is looked at, also after one has refused, so that `policy explain` tells all.
import { formatByteSize } from '../byte-size.ts';
import { formatDuration } from '../clock.ts';
import { LonglineError } from '../errors.ts';
import { nameMatches } from '../glob.ts';
import { parseImageReference } from '../images/image-reference.ts';
import { decideLimits, type LimitKind, namedNetworkAllowed, userAllowed, verdict } from './loosenings.ts';
import { decideMount, type PathView } from './mount-rules.ts';
import type { Decision, ImageRule, JobLimits, Policy, PolicyRequest, SandboxRequest } from './policy.ts';
import { decideSession, decideTunnel } from './session-rules.ts';

/** What of the host goes into decisions. */
export interface PolicyHost {
  readonly paths: PathView;
  /** What a job gets that asks for none: always allowed. */
  readonly defaultUser: string;
  readonly defaultRuntime: string;
}

/** Every rule looked at, in order. The command is allowed if all are. */
export function evaluatePolicy(policy: Policy, request: PolicyRequest, host: PolicyHost): readonly Decision[] {
  const decisions = [...decideSigner(policy, request)];
  if (request.job !== undefined) decisions.push(...decideJob(policy, request.job, host));
  if (request.session !== undefined) decisions.push(...decideSession(policy.sessions, request.session, host.paths));
  if (request.tunnel !== undefined) decisions.push(...decideTunnel(policy.sessions, request.tunnel));
  return decisions;
}

/** The refusal that the first forbidding rule makes; undefined if all allow. */
export function refusalOf(decisions: readonly Decision[]): LonglineError | undefined {
  const forbidding = decisions.find((decision) => !decision.allowed);
  if (forbidding === undefined) return undefined;
  return new LonglineError('policy', `forbidden by policy rule ${forbidding.rule}: ${forbidding.explanation}`, {
    rule: forbidding.rule,
  });
}

function* decideSigner(policy: Policy, request: PolicyRequest): Iterable<Decision> {
  const { capability, keyId, controllerId } = request;
  if (keyId === undefined) {
    const required = policy.signatures.require.includes(capability);
    yield {
      rule: 'signatures.require',
      allowed: !required,
      explanation: required ? `${capability} must be signed` : `${capability} need not be signed`,
    };
    return;
  }
  yield { rule: 'signatures.require', allowed: true, explanation: `signed with key ${keyId}` };
  if (policy.signers.length === 0) return;
  const match = policy.signers.find(
    (signer) =>
      nameMatches(signer.keyId, keyId) &&
      signer.capabilities.includes(capability) &&
      signer.controllers.some((pattern) => nameMatches(pattern, controllerId)),
  );
  yield match === undefined
    ? { rule: 'signers', allowed: false, explanation: `none lets key ${keyId} use ${capability} for ${controllerId}` }
    : { rule: match.rule, allowed: true, explanation: `lets key ${keyId} use ${capability}` };
}

function* decideJob(policy: Policy, job: SandboxRequest, host: PolicyHost): Iterable<Decision> {
  const image = parseImageReference(job.image);
  if (typeof image === 'string') {
    yield { rule: 'sandbox.image', allowed: false, explanation: `image ${JSON.stringify(job.image)}: ${image}` };
    return;
  }
  const rule = policy.images.find((candidate) => candidate.pattern.matches(image));
  if (rule === undefined) {
    yield { rule: 'images', allowed: false, explanation: `no rule matches image ${job.image}` };
    return;
  }
  yield { rule: rule.rule, allowed: true, explanation: `pattern ${rule.pattern.text} matches image ${job.image}` };
  if (rule.requireDigest) {
    const pinned = image.digest !== undefined;
    const explanation = pinned ? 'the image is given by digest' : `${job.image} must be given as "name@sha256:…"`;
    yield { rule: `${rule.rule}.require_digest`, allowed: pinned, explanation };
  }
  yield* decideLoosenings(rule, job, host);
  for (const [position, mount] of job.mounts.entries()) yield decideMount(rule, mount, position, host.paths);
  const general = { rule: 'limits', limits: policy.limits };
  yield* decideLimits(LIMIT_KINDS, general, { rule: `${rule.rule}.limits`, limits: rule.limits }, job.limits);
}

function* decideLoosenings(rule: ImageRule, job: SandboxRequest, host: PolicyHost): Iterable<Decision> {
  yield verdict(
    rule.rule,
    'networks',
    networkAllowed(rule, job.network),
    `network ${networkName(job.network)}`,
    rule.networks,
  );
  yield verdict(
    rule.rule,
    'users',
    job.user === host.defaultUser || userAllowed(rule.users, job.user),
    `user ${job.user}`,
    rule.users,
  );
  for (const asked of job.addCapabilities) {
    const name = asked.toUpperCase().replace(/^CAP_/, '');
    yield verdict(rule.rule, 'capabilities', rule.capabilities.includes(name), `capability ${name}`, rule.capabilities);
  }
  if (job.runtime !== host.defaultRuntime) {
    yield verdict(rule.rule, 'runtimes', rule.runtimes.includes(job.runtime), `runtime ${job.runtime}`, rule.runtimes);
  }
  if (job.writableRoot)
    yield verdict(rule.rule, 'writable_root', rule.writableRoot, 'a writable root file system', undefined);
  if (job.newPrivileges)
    yield verdict(rule.rule, 'new_privileges', rule.newPrivileges, 'gaining privileges', undefined);
}

function networkName(network: SandboxRequest['network']): string {
  return network.mode === 'named' ? `named:${network.name}` : network.mode;
}

function networkAllowed(rule: ImageRule, network: SandboxRequest['network']): boolean {
  switch (network.mode) {
    case 'none':
      return true;
    case 'bridge':
    case 'host':
      return rule.networks.includes(network.mode);
    case 'named':
      return namedNetworkAllowed(rule.networks, network.name);
    case 'unknown':
      return false;
  }
}

const LIMIT_KINDS: Readonly<Record<keyof JobLimits, LimitKind>> = {
  cpus: ['cpus', 0.01, String],
  memoryBytes: ['memory', 1, formatByteSize],
  pids: ['pids', 1, String],
  tmpBytes: ['tmp', 1, formatByteSize],
  timeoutMs: ['timeout', 1, formatDuration],
  outputBytes: ['output', 0, formatByteSize],
  stopGraceMs: ['stop_grace', 0, formatDuration],
};
