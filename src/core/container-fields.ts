// Fields that specs of containers have in common and whose form takes more than a range to check. Pure; each refuses into a
// collector and returns something harmless, so that one pass finds every wrong field.

/** Collects a violation; the path is relative to the spec. */
export type Refuse = (field: string, description: string) => void;

const MAX_ENV_ITEMS = 256;
const MAX_ENV_BYTES = 64 * 1024;
const MAX_ID = 2 ** 32 - 2;

/** Names that engines read as modes of their own: as the name of a network they would get past a policy on networks. */
export const NETWORK_MODES = new Set([
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

/** Plain: no "..", no "//", no trailing "/", nothing that an engine's short mount syntax would split. */
export function isPlainPath(path: string): boolean {
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

/** A text as errors show it: quoted, and cut short if it is long. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
