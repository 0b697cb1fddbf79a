// The fields of a job spec whose form takes more than a range to check. Pure; each refuses into a collector and returns
// something harmless, so that one pass finds every wrong field.

import type { ContainerMount } from './ports.ts';
import { type JobSpecMessage, networkModeOf } from './wire.ts';

/** Network of a job's container. */
export type JobNetwork =
  /** None, the engine's bridge, or the host's own. */
  | { readonly mode: 'none' | 'bridge' | 'host' }
  /** A network of the engine. */
  | { readonly mode: 'named'; readonly name: string };

/** Collects a violation; the path is relative to the spec. */
export type Refuse = (field: string, description: string) => void;

const MAX_ARGV_ITEMS = 4096;
const MAX_ARGV_BYTES = 128 * 1024;
const MAX_ENV_ITEMS = 256;
const MAX_ENV_BYTES = 64 * 1024;
const MAX_MOUNTS = 32;
const MAX_ID = 2 ** 32 - 2;

/** Where our own files are mounted in warm containers; jobs may not mount there. */
export const RESERVED_TARGET = '/.longline';

/** Program and arguments of argv or a shell line, of which exactly one is given. */
export function commandOf(argv: readonly string[], shell: string, refuse: Refuse): readonly string[] {
  if (argv.length === 0 && shell === '') refuse('argv', 'is empty, and so is shell; exactly one of them must be given');
  if (argv.length > 0 && shell !== '') refuse('argv', 'is given beside shell; exactly one of them must be given');
  if (argv[0] === '') refuse('argv[0]', 'is empty; it must name a program');
  if (argv.length > MAX_ARGV_ITEMS) refuse('argv', `has ${argv.length} items; at most ${MAX_ARGV_ITEMS} are taken`);
  const words = shell === '' ? argv : ['/bin/sh', '-c', shell];
  const field = shell === '' ? 'argv' : 'shell';
  const bytes = words.reduce((sum, word) => sum + Buffer.byteLength(word) + 1, 0);
  if (bytes > MAX_ARGV_BYTES) refuse(field, `has ${bytes} bytes; at most ${MAX_ARGV_BYTES} are taken`);
  if (words.some((word) => word.includes('\0'))) refuse(field, 'has a NUL character; no argument can hold one');
  return [...words];
}

/** Environment variables with names that every shell takes. */
export function environment(env: Readonly<Record<string, string>>, refuse: Refuse): Readonly<Record<string, string>> {
  const entries = Object.entries(env);
  if (entries.length > MAX_ENV_ITEMS)
    refuse('env', `has ${entries.length} variables; at most ${MAX_ENV_ITEMS} are taken`);
  let bytes = 0;
  for (const [name, value] of entries) {
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value) + 2;
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      refuse('env', `${JSON.stringify(name.slice(0, 80))} is not a variable name; [A-Za-z_][A-Za-z0-9_]* is`);
    } else if (value.includes('\0')) {
      refuse(`env[${JSON.stringify(name.slice(0, 80))}]`, 'has a NUL character; no variable can hold one');
    }
  }
  if (bytes > MAX_ENV_BYTES) refuse('env', `has ${bytes} bytes; at most ${MAX_ENV_BYTES} are taken`);
  return Object.fromEntries(entries.sort(([left], [right]) => (left < right ? -1 : 1)));
}

// Names that engines read as modes of their own: as the name of a network they would get past a policy on networks.
const NETWORK_MODES = new Set([
  'none',
  'host',
  'bridge',
  'default',
  'private',
  'pasta',
  'slirp4netns',
  'ns',
  'container',
]);

/** Network mode and, for NAMED, the network. */
export function networkOf(mode: JobSpecMessage['networkMode'], name: string, refuse: Refuse): JobNetwork {
  const kind = networkModeOf(mode);
  if (kind === undefined) refuse('network_mode', `${mode} is a value that this agent does not know`);
  if (kind !== 'named') {
    if (name !== '')
      refuse('network_name', `${JSON.stringify(name.slice(0, 80))} needs network_mode NETWORK_MODE_NAMED`);
    return { mode: kind ?? 'none' };
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(name) || NETWORK_MODES.has(name.toLowerCase())) {
    refuse('network_name', `${JSON.stringify(name.slice(0, 80))} is not the name of an engine network`);
  }
  return { mode: 'named', name };
}

/** Mounts with plain absolute paths, each target once. */
export function mountsOf(mounts: JobSpecMessage['mounts'], refuse: Refuse): readonly ContainerMount[] {
  if (mounts.length > MAX_MOUNTS) refuse('mounts', `has ${mounts.length} mounts; at most ${MAX_MOUNTS} are taken`);
  const targets = new Set<string>();
  return mounts.slice(0, MAX_MOUNTS).map(({ source, target, writable }, index) => {
    const field = `mounts[${index}]`;
    const isVolume = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(source);
    if (!isVolume && !isPlainPath(source)) {
      refuse(`${field}.source`, `${shown(source)} is neither a volume name nor a plain absolute path`);
    }
    if (!isPlainPath(target) || target === '/') {
      refuse(`${field}.target`, `${shown(target)} is not a plain absolute path below /`);
    } else if (
      ['/proc', '/sys', '/dev', RESERVED_TARGET].some((top) => target === top || target.startsWith(`${top}/`))
    ) {
      refuse(`${field}.target`, `${shown(target)} lies in a part of the file system that the sandbox owns`);
    }
    if (targets.has(target)) refuse(`${field}.target`, `${shown(target)} is the target of another mount too`);
    targets.add(target);
    return { source, target, writable };
  });
}

/** "user", "uid", "user:group" or "uid:gid"; empty takes the default. */
export function userOf(user: string, fallback: string, refuse: Refuse): string {
  if (user === '') return fallback;
  const parts = user.split(':');
  const wellFormed = parts.every((part) =>
    /^\d+$/.test(part) ? Number(part) <= MAX_ID : /^[a-z_][a-z0-9_-]{0,31}$/.test(part),
  );
  if (parts.length > 2 || !wellFormed) refuse('sandbox.user', `${shown(user)} is not user, uid, user:group or uid:gid`);
  return user;
}

/** Linux capabilities by their names in capabilities(7), without CAP_, sorted, each once. */
export function capabilityNames(names: readonly string[], refuse: Refuse): readonly string[] {
  for (const [index, name] of names.entries()) {
    if (KNOWN.has(name)) continue;
    refuse(`sandbox.add_capabilities[${index}]`, `${shown(name)} is not a Linux capability; "NET_BIND_SERVICE" is one`);
  }
  return [...new Set(names)].sort();
}

const KNOWN = new Set(
  `AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER
   FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
   NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
   SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`.split(/\s+/),
);

// Plain: no "..", no "//", no trailing "/", nothing that an engine's short mount syntax would split.
function isPlainPath(path: string): boolean {
  if (path === '/') return true;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is to be found.
  if (path.length > 4096 || /[\x00-\x1f:,]/.test(path)) return false;
  return (
    path.startsWith('/') &&
    path
      .slice(1)
      .split('/')
      .every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
