// Whether a mount is allowed. Paths are compared after symbolic links are resolved, part by part, never as mere text:
// "/srv/data/../../etc", "/srv//data", "/srv/database" and a link out of /srv/data must all fail against "/srv/data".
import { nameMatches } from '../glob.ts';
import type { Decision, ImageRule, MountRequest } from './policy.ts';

/** What mounts look at of a rule. */
export type MountRules = Pick<ImageRule, 'rule' | 'mounts'>;

/** What the host knows of paths. */
export interface PathView {
  /** The path with every symbolic link resolved; undefined if it doesn't exist or can't be looked at. */
  resolve(path: string): string | undefined;
  /** Resolved paths that no job may reach, whatever the policy says: the agent's own files, the engine's socket. */
  readonly protectedPaths: readonly string[];
}

/** A container sees no path of the host there, or would take over what the engine puts there. */
const RESERVED_TARGETS = ['/proc', '/sys', '/dev'];

/** Decides on one mount; `position` is its index in the job. */
export function decideMount(rule: MountRules, mount: MountRequest, position: number, paths: PathView): Decision {
  const name = `${rule.rule}.mounts`;
  const said = `mounts[${position}] ${mount.source} at ${mount.target}${mount.writable ? ' (writable)' : ''}`;
  const deny = (why: string, decidedBy = name): Decision => ({
    rule: decidedBy,
    allowed: false,
    explanation: `${said}: ${why}`,
  });
  const targetFault = faultOfTarget(mount.target);
  if (targetFault !== undefined) return deny(targetFault, 'sandbox.mounts');
  if (!mount.source.startsWith('/')) return decideVolume(rule, mount, said, deny);
  if (mount.source.includes('\0') || mount.source.split('/').includes('..')) {
    return deny('a source must not hold ".." or NUL', 'sandbox.mounts');
  }
  const source = paths.resolve(mount.source);
  if (source === undefined) return deny("the source doesn't exist on this host");
  const protectedPath = paths.protectedPaths.find((path) => isWithin(path, source) || isWithin(source, path));
  if (protectedPath !== undefined) {
    return deny(`it would let the job reach ${protectedPath}, which belongs to the agent`, 'sandbox.protected_paths');
  }
  const resolved = source === mount.source ? '' : `, which is ${source}`;
  let readOnlyMatch = false;
  for (const allowed of rule.mounts) {
    if (!allowed.source.startsWith('/')) continue;
    const prefix = paths.resolve(allowed.source);
    if (prefix === undefined || !isWithin(source, prefix)) continue;
    if (allowed.writable || !mount.writable) {
      return { rule: name, allowed: true, explanation: `${said}${resolved}: within ${allowed.source}` };
    }
    readOnlyMatch = true;
  }
  if (readOnlyMatch) return deny(`may only be mounted read-only${resolved}`);
  return deny(`is in no folder that ${name} lists${resolved}`);
}

function decideVolume(
  rule: MountRules,
  mount: MountRequest,
  said: string,
  deny: (why: string, decidedBy?: string) => Decision,
): Decision {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/.test(mount.source)) {
    return deny('a source is an absolute path or the name of a volume', 'sandbox.mounts');
  }
  const matching = rule.mounts.filter(
    ({ source }) => source.startsWith('volume:') && nameMatches(source.slice('volume:'.length), mount.source),
  );
  if (matching.some(({ writable }) => writable || !mount.writable)) {
    return { rule: `${rule.rule}.mounts`, allowed: true, explanation: `${said}: a volume that is listed` };
  }
  return deny(matching.length > 0 ? 'may only be mounted read-only' : `is no volume that ${rule.rule}.mounts lists`);
}

function faultOfTarget(target: string): string | undefined {
  if (!target.startsWith('/') || target.includes('\0')) return 'a target is an absolute path';
  const parts = target.split('/').slice(1);
  if (parts.at(-1) === '') parts.pop();
  if (parts.length === 0) return 'a target must not be the root';
  if (parts.some((part) => part === '' || part === '.' || part === '..')) {
    return 'a target must not hold "..", "." or "//"';
  }
  const path = `/${parts.join('/')}`;
  if (RESERVED_TARGETS.some((reserved) => isWithin(path, reserved)))
    return 'a target must not lie in /proc, /sys or /dev';
  return undefined;
}

/** True if `path` is `folder` or below it. Both absolute and resolved. */
export function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`);
}
