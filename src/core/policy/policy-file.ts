// The policy file. Every key is optional but `version`; what is left out is as strict as the hardened sandbox.
import { readToml, type TomlTable } from '../toml/toml-table.ts';
import { imagePatternFault } from './image-pattern.ts';
import {
  CAPABILITY_NAMES,
  DEFAULT_POLICY,
  type ImageRule,
  type JobLimits,
  type MountRule,
  type Policy,
  type SignerRule,
} from './policy.ts';

const DAY_MS = 24 * 3_600_000;
const CAPABILITY = new RegExp(`^(${CAPABILITY_NAMES.join('|')})$`);
const CAPABILITY_FORM = `one of ${CAPABILITY_NAMES.join(', ')}`;
const NAME = /^[A-Za-z0-9_-]{1,64}$/;
// "*" alone would leave the group to the engine, which gives a number that the image doesn't know the group of root.
const USER = /^(?:[A-Za-z0-9_.-]+|(?:\*|[A-Za-z0-9_.-]+):(?:\*|[A-Za-z0-9_.-]+))$/;
const USER_FORM = '"UID:GID" of numbers, names or "*", or a user by itself';
const MAX_MEMORY_BYTES = 2 ** 50;

/** Parses a policy file. Throws `invalid` with every violation: path, value, line, and what would be right. */
export function parsePolicy(text: string): Policy {
  return readToml(text, (root) => {
    if (!root.has('version')) root.fail('version', 'missing; must be 1');
    root.number('version', 1, 1, true);
    const signatures = root.table('signatures');
    const { require, maxLifetimeMs } = DEFAULT_POLICY.signatures;
    return {
      signatures: {
        require: signatures.strings('require', CAPABILITY, CAPABILITY_FORM) ?? require,
        maxLifetimeMs: signatures.duration('max_lifetime', 1000, 30 * DAY_MS) ?? maxLifetimeMs,
      },
      signers: root.tables('signers').map(signerRule),
      images: imageRules(root),
      limits: jobLimits(root.table('limits')),
    };
  });
}

function signerRule(table: TomlTable, position: number): SignerRule {
  return {
    rule: `signers[${position}]`,
    keyId:
      table.requiredString('key_id', /^[A-Za-z0-9._:*-]{1,128}$/, 'a key id, "*" standing for any characters') ?? '',
    capabilities: table.requiredStrings('capabilities', CAPABILITY, CAPABILITY_FORM) ?? [],
    controllers: table.strings('controllers') ?? ['*'],
  };
}

function imageRules(root: TomlTable): readonly ImageRule[] {
  const seen = new Set<string>();
  return root.tables('images').map((table, position) => {
    const name = table.string('name', NAME, '1 to 64 characters of [A-Za-z0-9_-]');
    if (name !== undefined && seen.has(name)) table.fail('name', `${JSON.stringify(name)} names an earlier rule too`);
    if (name !== undefined) seen.add(name);
    const pattern = table.requiredString('pattern') ?? '';
    const fault = pattern === '' ? undefined : imagePatternFault(pattern);
    if (fault !== undefined) table.fail('pattern', `${JSON.stringify(pattern)}: ${fault}`);
    return {
      rule: name === undefined ? `images[${position}]` : `images.${name}`,
      pattern,
      requireDigest: table.boolean('require_digest') ?? false,
      networks:
        table.strings('networks', /^(bridge|host|named:[A-Za-z0-9_.*-]+)$/, '"bridge", "host" or "named:PATTERN"') ??
        [],
      users: table.strings('users', USER, USER_FORM) ?? [],
      capabilities:
        table.strings('capabilities', /^(?!CAP_)[A-Z][A-Z0-9_]*$/, 'a Linux capability such as "NET_BIND_SERVICE"') ??
        [],
      runtimes: table.strings('runtimes', /^[A-Za-z0-9_.-]+$/, 'the name of an engine runtime such as "runsc"') ?? [],
      writableRoot: table.boolean('writable_root') ?? false,
      newPrivileges: table.boolean('new_privileges') ?? false,
      mounts: table.tables('mounts').map(mountRule),
      limits: jobLimits(table.table('limits')),
    };
  });
}

function mountRule(table: TomlTable): MountRule {
  const source = table.requiredString('source') ?? '';
  const isVolume = /^volume:[A-Za-z0-9_.*-]+$/.test(source);
  const isPath = source.startsWith('/') && !source.includes('\0') && !source.split('/').includes('..');
  if (source !== '' && !isVolume && !isPath) {
    table.fail('source', `${JSON.stringify(source)}: must be an absolute path without ".." or "volume:PATTERN"`);
  }
  return { source, writable: table.boolean('writable') ?? false };
}

function jobLimits(table: TomlTable): Partial<JobLimits> {
  const limits: { [Name in keyof JobLimits]: number | undefined } = {
    cpus: table.number('cpus', 0.01, 4096, false),
    memoryBytes: table.byteSize('memory'),
    pids: table.number('pids', 1, 4_194_304, true),
    tmpBytes: table.byteSize('tmp'),
    timeoutMs: table.duration('timeout', 1000, 30 * DAY_MS),
    outputBytes: table.byteSize('output'),
    stopGraceMs: table.duration('stop_grace', 0, 3_600_000),
  };
  if ((limits.memoryBytes ?? 0) > MAX_MEMORY_BYTES) table.fail('memory', 'more than any host has; at most "1024TiB"');
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
