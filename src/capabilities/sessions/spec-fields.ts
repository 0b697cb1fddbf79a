// The fields of a session spec whose form takes more than a range to check. Pure; each refuses into a collector and returns
// something harmless, so that one pass finds every wrong field.
import { isPlainPath, NETWORK_MODES, type Refuse, shown } from '../../core/container-fields.ts';
import type { MountSpec, NetworkSpec, PortSpec, VolumeSpec } from './session-spec.ts';
import { networkModeOf, portProtocolOf, type SessionSpecMessage, volumeScopeOf } from './wire.ts';

const MAX_ARGUMENTS = 4096;
const MAX_ARGUMENT_BYTES = 128 * 1024;
const MAX_VOLUMES = 16;
const MAX_PORTS = 32;
const MAX_LABELS = 64;
const RFB_PORT = 5900;
const RESERVED = ['/proc', '/sys', '/dev'];

/** Program and arguments; empty keeps what the image has. */
export function argumentsOf(field: string, words: readonly string[], refuse: Refuse): readonly string[] {
  if (words[0] === '') refuse(`${field}[0]`, 'is empty; it must name a program');
  if (words.length > MAX_ARGUMENTS) refuse(field, `has ${words.length} items; at most ${MAX_ARGUMENTS} are taken`);
  const bytes = words.reduce((sum, word) => sum + Buffer.byteLength(word) + 1, 0);
  if (bytes > MAX_ARGUMENT_BYTES) refuse(field, `has ${bytes} bytes; at most ${MAX_ARGUMENT_BYTES} are taken`);
  if (words.some((word) => word.includes('\0'))) refuse(field, 'has a NUL character; no argument can hold one');
  return [...words];
}

/** A plain absolute path. */
export function pathOf(field: string, path: string, refuse: Refuse): string {
  if (!isPlainPath(path)) refuse(field, `${shown(path)} is not a plain absolute path`);
  return path;
}

/** Volumes, each with a name and target of its own. */
export function volumesOf(
  volumes: SessionSpecMessage['volumes'],
  owner: string,
  defaultDriver: string,
  refuse: Refuse,
): readonly VolumeSpec[] {
  if (volumes.length > MAX_VOLUMES) refuse('volumes', `has ${volumes.length}; at most ${MAX_VOLUMES} are taken`);
  const names = new Set<string>();
  return volumes.slice(0, MAX_VOLUMES).map((volume, index) => {
    const field = `volumes[${index}]`;
    const scope = volumeScopeOf(volume.scope);
    if (scope === undefined) refuse(`${field}.scope`, `${volume.scope} is a value that this agent does not know`);
    if (scope === 'owner' && owner === '') refuse(`${field}.scope`, 'is SCOPE_OWNER, but the session has no owner');
    if (!/^[a-z0-9][a-z0-9_-]{0,31}$/.test(volume.name)) {
      refuse(`${field}.name`, `${shown(volume.name)} is not 1 to 32 of a-z 0-9 _ -, beginning with a letter or digit`);
    }
    const key = `${scope} ${volume.name}`;
    if (names.has(key)) refuse(`${field}.name`, `${shown(volume.name)} is the name of another volume too`);
    names.add(key);
    if (volume.driver !== '' && !/^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$/.test(volume.driver)) {
      refuse(`${field}.driver`, `${shown(volume.driver)} is not the name of a volume driver; "local" is`);
    }
    return {
      name: volume.name,
      scope: scope ?? 'session',
      target: targetOf(`${field}.target`, volume.target, refuse),
      driver: volume.driver === '' ? defaultDriver : volume.driver,
      options: { ...volume.driverOptions },
      quotaBytes: Number(volume.quotaBytes),
      writable: !volume.readOnly,
    };
  });
}

/** Host folders; no target twice, also not among those of volumes. */
export function mountsOf(
  mounts: SessionSpecMessage['mounts'],
  taken: readonly string[],
  refuse: Refuse,
): readonly MountSpec[] {
  if (mounts.length > MAX_VOLUMES) refuse('mounts', `has ${mounts.length}; at most ${MAX_VOLUMES} are taken`);
  const targets = new Set<string>();
  for (const [index, target] of taken.entries()) {
    if (targets.has(target)) refuse(`volumes[${index}].target`, `${shown(target)} is the target of another volume too`);
    targets.add(target);
  }
  return mounts.slice(0, MAX_VOLUMES).map(({ source, target, writable }, index) => {
    const field = `mounts[${index}]`;
    pathOf(`${field}.source`, source, refuse);
    targetOf(`${field}.target`, target, refuse);
    if (targets.has(target)) refuse(`${field}.target`, `${shown(target)} is the target of another mount or volume too`);
    targets.add(target);
    return { source, target, writable };
  });
}

function targetOf(field: string, target: string, refuse: Refuse): string {
  if (!isPlainPath(target) || target === '/') refuse(field, `${shown(target)} is not a plain absolute path below /`);
  else if (RESERVED.some((top) => target === top || target.startsWith(`${top}/`))) {
    refuse(field, `${shown(target)} lies in a part of the file system that the engine owns`);
  }
  return target;
}

/** Which network; isolated unless said otherwise. */
export function networkOf(network: SessionSpecMessage['network'], refuse: Refuse): NetworkSpec {
  const mode = networkModeOf(network?.mode ?? 0);
  const { name = '', internal = false } = network ?? {};
  if (mode === undefined) refuse('network.mode', `${network?.mode} is a value that this agent does not know`);
  if (mode !== 'named' && name !== '') refuse('network.name', `${shown(name)} needs mode NAMED`);
  if (mode !== 'isolated' && internal)
    refuse('network.internal', 'is true, but only an ISOLATED network can be internal');
  if (mode !== 'named') return mode === 'isolated' ? { mode, internal } : { mode: mode ?? 'none' };
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(name) || NETWORK_MODES.has(name.toLowerCase())) {
    refuse('network.name', `${shown(name)} is not the name of an engine network`);
  } else if (name.startsWith('longline-session-')) {
    refuse('network.name', `${shown(name)} belongs to another session`);
  }
  return { mode, name };
}

/** Ports, with that of the screen among them. */
export function portsOf(
  ports: SessionSpecMessage['ports'],
  vnc: SessionSpecMessage['vnc'],
  refuse: Refuse,
): readonly PortSpec[] {
  if (ports.length > MAX_PORTS) refuse('ports', `has ${ports.length} ports; at most ${MAX_PORTS} are taken`);
  const names = new Set<string>();
  const numbers = new Set<number>();
  const parsed = ports.slice(0, MAX_PORTS).map(({ name, number, protocol }, index): PortSpec => {
    const field = `ports[${index}]`;
    if (!/^[a-z][a-z0-9-]{0,31}$/.test(name)) {
      refuse(`${field}.name`, `${shown(name)} is not 1 to 32 of a-z 0-9 -, beginning with a letter`);
    }
    if (names.has(name)) refuse(`${field}.name`, `${shown(name)} is the name of another port too`);
    checkPort(`${field}.number`, number, refuse);
    if (numbers.has(number)) refuse(`${field}.number`, `${number} is given twice`);
    names.add(name);
    numbers.add(number);
    const spoken = portProtocolOf(protocol);
    if (spoken === undefined) refuse(`${field}.protocol`, `${protocol} is a value that this agent does not know`);
    return { name, number, protocol: spoken ?? 'raw' };
  });
  if (vnc === undefined) return parsed;
  const number = vnc.port === 0 ? RFB_PORT : vnc.port;
  checkPort('vnc.port', number, refuse);
  if (numbers.has(number)) return parsed;
  if (names.has('vnc')) refuse('ports', `the name "vnc" is taken by another port than vnc.port, ${number}`);
  return [...parsed, { name: 'vnc', number, protocol: 'vnc' }];
}

/** Refuses what is no TCP port. */
export function checkPort(field: string, port: number, refuse: Refuse): void {
  if (!(port >= 1 && port <= 65_535)) refuse(field, `${port} is out of range; 1 to 65535 is allowed`);
}

/** Labels; ours are set beside them. */
export function labelsOf(labels: Readonly<Record<string, string>>, refuse: Refuse): Readonly<Record<string, string>> {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) refuse('labels', `has ${entries.length} labels; at most ${MAX_LABELS} are taken`);
  for (const [key, value] of entries.slice(0, MAX_LABELS)) {
    if (!/^[A-Za-z0-9._/-]{1,63}$/.test(key) || value.length > 255) {
      refuse(
        'labels',
        `${shown(`${key}=${value}`)} is not KEY=VALUE with a key of 1 to 63 of A-Z a-z 0-9 . _ / - and at most 255 characters`,
      );
    }
    if (/^longline(\.|$)/.test(key))
      refuse('labels', `${shown(key)} begins with "longline", which the agent sets itself`);
  }
  return Object.fromEntries(entries);
}
