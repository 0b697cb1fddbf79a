// Asks a policy about a command. Every rule is looked at, also after one has refused, so that `policy explain` tells all.
import { formatByteSize } from '../byte-size.ts';
import { formatDuration } from '../clock.ts';
import { LonglineError } from '../errors.ts';
import { imageMatches, nameMatches, parseImageReference } from './image-pattern.ts';
import { decideMount, type PathView } from './mount-rules.ts';
import type { Decision, ImageRule, JobLimits, Policy, PolicyRequest, SandboxRequest } from './policy.ts';

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
  if ('fault' in image) {
    yield { rule: 'sandbox.image', allowed: false, explanation: `image ${JSON.stringify(job.image)} ${image.fault}` };
    return;
  }
  const rule = policy.images.find((candidate) => imageMatches(candidate.pattern, image));
  if (rule === undefined) {
    yield { rule: 'images', allowed: false, explanation: `no rule matches image ${job.image}` };
    return;
  }
  yield { rule: rule.rule, allowed: true, explanation: `pattern ${rule.pattern} matches image ${job.image}` };
  if (rule.requireDigest) {
    const pinned = image.digest !== '';
    const explanation = pinned ? 'the image is given by digest' : `${job.image} must be given as "name@sha256:…"`;
    yield { rule: `${rule.rule}.require_digest`, allowed: pinned, explanation };
  }
  yield* decideLoosenings(rule, job, host);
  for (const [position, mount] of job.mounts.entries()) yield decideMount(rule, mount, position, host.paths);
  yield* decideLimits({ ...policy.limits, ...rule.limits }, rule, job.limits);
}

function* decideLoosenings(rule: ImageRule, job: SandboxRequest, host: PolicyHost): Iterable<Decision> {
  yield verdict(
    rule,
    'networks',
    networkAllowed(rule, job.network),
    `network ${networkName(job.network)}`,
    rule.networks,
  );
  yield verdict(
    rule,
    'users',
    job.user === host.defaultUser || userAllowed(rule, job.user),
    `user ${job.user}`,
    rule.users,
  );
  for (const asked of job.addCapabilities) {
    const name = asked.toUpperCase().replace(/^CAP_/, '');
    yield verdict(rule, 'capabilities', rule.capabilities.includes(name), `capability ${name}`, rule.capabilities);
  }
  if (job.runtime !== host.defaultRuntime) {
    yield verdict(rule, 'runtimes', rule.runtimes.includes(job.runtime), `runtime ${job.runtime}`, rule.runtimes);
  }
  if (job.writableRoot)
    yield verdict(rule, 'writable_root', rule.writableRoot, 'a writable root file system', undefined);
  if (job.newPrivileges) yield verdict(rule, 'new_privileges', rule.newPrivileges, 'gaining privileges', undefined);
}

function verdict(
  rule: ImageRule,
  key: string,
  allowed: boolean,
  subject: string,
  list: readonly string[] | undefined,
): Decision {
  if (allowed) return { rule: `${rule.rule}.${key}`, allowed, explanation: `${subject} is allowed` };
  const listed = list === undefined ? 'not allowed' : `not among those allowed: ${list.join(', ') || 'none'}`;
  return { rule: `${rule.rule}.${key}`, allowed, explanation: `${subject} is ${listed}` };
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
      // These names are modes to the engine, not networks.
      if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(network.name)) return false;
      if (['none', 'bridge', 'host', 'default', 'container'].includes(network.name)) return false;
      return rule.networks.some(
        (allowed) => allowed.startsWith('named:') && nameMatches(allowed.slice('named:'.length), network.name),
      );
    case 'unknown':
      return false;
  }
}

const ID = /^(?:0|[1-9]\d{0,9})$/;
const LARGEST_ID = 2 ** 31 - 1;

/**
 * A name is allowed only by itself, since the image decides which number it is, and so is a number without a group, since
 * the engine may choose that of root. "*" stands for any number but 0.
 */
function userAllowed(rule: ImageRule, user: string): boolean {
  if (rule.users.includes(user)) return true;
  const asked = user.split(':');
  if (asked.length !== 2 || !asked.every((part) => ID.test(part) && Number(part) <= LARGEST_ID)) return false;
  return rule.users.some((pattern) => {
    const parts = pattern.split(':');
    return (
      parts.length === asked.length &&
      parts.every((part, position) => (part === '*' ? asked[position] !== '0' : part === asked[position]))
    );
  });
}

/** Key in the policy file, the least that makes sense, and how to write it. To engines, 0 means no limit at all. */
const LIMIT_KINDS: Readonly<Record<keyof JobLimits, readonly [string, number, (value: number) => string]>> = {
  cpus: ['cpus', 0.01, String],
  memoryBytes: ['memory', 1, formatByteSize],
  pids: ['pids', 1, String],
  tmpBytes: ['tmp', 1, formatByteSize],
  timeoutMs: ['timeout', 1, formatDuration],
  outputBytes: ['output', 0, formatByteSize],
  stopGraceMs: ['stop_grace', 0, formatDuration],
};

function* decideLimits(limits: Partial<JobLimits>, rule: ImageRule, asked: JobLimits): Iterable<Decision> {
  for (const name of Object.keys(LIMIT_KINDS) as (keyof JobLimits)[]) {
    const [key, least, format] = LIMIT_KINDS[name];
    const most = limits[name];
    if (most === undefined) continue;
    // Written so that NaN is refused.
    const allowed = asked[name] >= least && asked[name] <= most;
    const relation = allowed ? 'is within' : 'is not within';
    yield {
      rule: rule.limits[name] === undefined ? `limits.${key}` : `${rule.rule}.limits.${key}`,
      allowed,
      explanation: `${key} ${format(asked[name])} ${relation} ${format(least)} to ${format(most)}`,
    };
  }
}
