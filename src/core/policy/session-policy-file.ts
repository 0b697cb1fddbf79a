// The [sessions] part of a policy file. What is left out is as strict as can be: without an image rule, no session.
import type { TomlTable } from '../toml/toml-table.ts';
import { ImageRuleReader, memoryOf } from './image-rule-reader.ts';
import {
  DEFAULT_SESSION_POLICY,
  type SessionImageRule,
  type SessionLimits,
  type SessionPolicy,
} from './session-policy.ts';

const YEAR_MS = 366 * 24 * 3_600_000;
const PATTERN = /^[A-Za-z0-9_.*-]+$/;

/** Reads the part. */
export function sessionPolicy(table: TomlTable): SessionPolicy {
  const tunnels = table.strings('tunnels', /^(port|exec|attach)$/, '"port", "exec" or "attach"');
  const reader = new ImageRuleReader('sessions.images');
  return {
    images: table.tables('images').map((rule, position) => imageRule(reader, rule, position)),
    limits: sessionLimits(table.table('limits')),
    tunnels: (tunnels as SessionPolicy['tunnels'] | undefined) ?? DEFAULT_SESSION_POLICY.tunnels,
  };
}

function imageRule(reader: ImageRuleReader, table: TomlTable, position: number): SessionImageRule {
  return {
    ...reader.common(table, position),
    networks: reader.networks(table, ['shared']),
    mounts: reader.mounts(table, false),
    sharedVolumes: table.strings('shared_volumes', PATTERN, 'a pattern of volume names') ?? [],
    volumeDrivers: table.strings('volume_drivers', /^[A-Za-z0-9_./:-]+$/, 'the name of a volume driver') ?? [],
    limits: sessionLimits(table.table('limits')),
  };
}

function sessionLimits(table: TomlTable): Partial<SessionLimits> {
  const limits: { [Name in keyof SessionLimits]: number | undefined } = {
    cpus: table.number('cpus', 0.01, 4096, false),
    memoryBytes: memoryOf(table),
    pids: table.number('pids', 1, 4_194_304, true),
    shmBytes: table.byteSize('shm'),
    lifetimeMs: table.duration('max_lifetime', 1000, YEAR_MS),
  };
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
