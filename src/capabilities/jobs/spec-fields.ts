// The fields of a job spec whose form takes more than a range to check. Pure; each refuses into a collector and returns
// something harmless, so that one pass finds every wrong field.

import { isPlainPath, NETWORK_MODES, type Refuse, shown } from '../../core/container-fields.ts';
import type { ContainerMount } from './ports.ts';

export { capabilityNames, environment, type Refuse, userOf } from '../../core/container-fields.ts';

import { type JobSpecMessage, networkModeOf } from './wire.ts';

/** Network of a job's container. */
export type JobNetwork =
  /** None, the engine's bridge, or the host's own. */
  | { readonly mode: 'none' | 'bridge' | 'host' }
  /** A network of the engine. */
  | { readonly mode: 'named'; readonly name: string };

const MAX_ARGV_ITEMS = 4096;
const MAX_ARGV_BYTES = 128 * 1024;
const MAX_MOUNTS = 32;

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
