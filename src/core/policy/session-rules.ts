// Asks a policy about sessions: what one may be, and whether a way into one is open. Every rule is looked at, also after
// one has refused.
import { formatByteSize } from '../byte-size.ts';
import { formatDuration } from '../clock.ts';
import { nameMatches } from '../glob.ts';
import { parseImageReference } from '../images/image-reference.ts';
import { decideLimits, type LimitKind, namedNetworkAllowed, userAllowed, verdict } from './loosenings.ts';
import { decideMount, type PathView } from './mount-rules.ts';
import type { Decision } from './policy.ts';
import type {
  SessionImageRule,
  SessionLimits,
  SessionPolicy,
  SessionRequest,
  TunnelRequest,
} from './session-policy.ts';

const LIMIT_KINDS: Readonly<Record<keyof SessionLimits, LimitKind>> = {
  cpus: ['cpus', 0.01, String],
  memoryBytes: ['memory', 1, formatByteSize],
  pids: ['pids', 1, String],
  shmBytes: ['shm', 1, formatByteSize],
  lifetimeMs: ['max_lifetime', 1, formatDuration],
};

/** Decides on a session. */
export function* decideSession(policy: SessionPolicy, session: SessionRequest, paths: PathView): Iterable<Decision> {
  const rule = yield* decideImage(policy, session.image);
  if (rule === undefined) return;
  if (rule.requireDigest) {
    const image = parseImageReference(session.image);
    const pinned = typeof image !== 'string' && image.digest !== undefined;
    const explanation = pinned ? 'the image is given by digest' : `${session.image} must be given as "name@sha256:…"`;
    yield { rule: `${rule.rule}.require_digest`, allowed: pinned, explanation };
  }
  yield* decideLoosenings(rule, session);
  for (const [position, mount] of session.mounts.entries()) yield decideMount(rule, mount, position, paths);
  const general = { rule: 'sessions.limits', limits: policy.limits };
  const own = { rule: `${rule.rule}.limits`, limits: rule.limits };
  yield* decideLimits(LIMIT_KINDS, general, own, session.limits);
}

/** The rule of an image; undefined if there is none, which has been told. */
function* decideImage(policy: SessionPolicy, image: string): Generator<Decision, SessionImageRule | undefined> {
  const reference = parseImageReference(image);
  if (typeof reference === 'string') {
    yield { rule: 'sandbox.image', allowed: false, explanation: `image ${JSON.stringify(image)}: ${reference}` };
    return undefined;
  }
  const rule = policy.images.find((candidate) => candidate.pattern.matches(reference));
  yield rule === undefined
    ? { rule: 'sessions.images', allowed: false, explanation: `no rule matches image ${image}` }
    : { rule: rule.rule, allowed: true, explanation: `pattern ${rule.pattern.text} matches image ${image}` };
  return rule;
}

function networkAllowed({ networks }: SessionImageRule, { mode, name }: SessionRequest['network']): boolean {
  switch (mode) {
    case 'isolated':
    case 'none':
      return true;
    case 'shared':
      return networks.includes('shared');
    case 'named':
      return namedNetworkAllowed(networks, name);
    case 'unknown':
      return false;
  }
}

function* decideLoosenings(rule: SessionImageRule, session: SessionRequest): Iterable<Decision> {
  const { network, user } = session;
  const networkName = network.mode === 'named' ? `named:${network.name}` : network.mode;
  const inNetwork = networkAllowed(rule, network);
  yield verdict(rule.rule, 'networks', inNetwork, `network ${networkName}`, rule.networks);
  if (user === '') yield { rule: `${rule.rule}.users`, allowed: true, explanation: "the image's own user is allowed" };
  else yield verdict(rule.rule, 'users', userAllowed(rule.users, user), `user ${user}`, rule.users);
  for (const asked of session.addCapabilities) {
    const name = asked.toUpperCase().replace(/^CAP_/, '');
    const allowed = rule.capabilities.includes(name);
    yield verdict(rule.rule, 'capabilities', allowed, `capability ${name}`, rule.capabilities);
  }
  if (session.runtime !== '') {
    const allowed = rule.runtimes.includes(session.runtime);
    yield verdict(rule.rule, 'runtimes', allowed, `runtime ${session.runtime}`, rule.runtimes);
  }
  if (session.newPrivileges) {
    yield verdict(rule.rule, 'new_privileges', rule.newPrivileges, 'gaining privileges', undefined);
  }
  for (const name of session.sharedVolumes) {
    const allowed = rule.sharedVolumes.some((pattern) => nameMatches(pattern, name));
    yield verdict(rule.rule, 'shared_volumes', allowed, `shared volume ${name}`, rule.sharedVolumes);
  }
  for (const driver of session.volumeDrivers) {
    const allowed = rule.volumeDrivers.includes(driver);
    yield verdict(rule.rule, 'volume_drivers', allowed, `volume driver ${driver}`, rule.volumeDrivers);
  }
}

/** Decides on a way into a session. Whoever a process runs as there is bound by the rule that bound the session's user. */
export function* decideTunnel(policy: SessionPolicy, { kind, other }: TunnelRequest): Iterable<Decision> {
  const names = { port: 'a tunnel to a port', exec: 'running a process', attach: 'attaching' } as const;
  yield verdict('sessions', 'tunnels', policy.tunnels.includes(kind), names[kind], policy.tunnels);
  if (other === undefined) return;
  const rule = yield* decideImage(policy, other.image);
  if (rule === undefined) return;
  yield verdict(rule.rule, 'users', userAllowed(rule.users, other.user), `user ${other.user}`, rule.users);
}
