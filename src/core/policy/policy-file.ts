// The policy file. Every key is optional but `version`; what is left out is as strict as the hardened sandbox.
import { readToml, type TomlTable } from '../toml/toml-table.ts';
import { ImageRuleReader, memoryOf } from './image-rule-reader.ts';
import {
  CAPABILITY_NAMES,
  DEFAULT_POLICY,
  type ImageRule,
  type JobLimits,
  type Policy,
  type SignerRule,
} from './policy.ts';
import { sessionPolicy } from './session-policy-file.ts';

const DAY_MS = 24 * 3_600_000;
const CAPABILITY = new RegExp(`^(${CAPABILITY_NAMES.join('|')})$`);
const CAPABILITY_FORM = `one of ${CAPABILITY_NAMES.join(', ')}`;

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
      sessions: sessionPolicy(root.table('sessions')),
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
  const reader = new ImageRuleReader('images');
  return root.tables('images').map((table, position) => ({
    ...reader.common(table, position),
    networks: reader.networks(table, ['bridge', 'host']),
    writableRoot: table.boolean('writable_root') ?? false,
    mounts: reader.mounts(table, true),
    limits: jobLimits(table.table('limits')),
  }));
}

function jobLimits(table: TomlTable): Partial<JobLimits> {
  const limits: { [Name in keyof JobLimits]: number | undefined } = {
    cpus: table.number('cpus', 0.01, 4096, false),
    memoryBytes: memoryOf(table),
    pids: table.number('pids', 1, 4_194_304, true),
    tmpBytes: table.byteSize('tmp'),
    timeoutMs: table.duration('timeout', 1000, 30 * DAY_MS),
    outputBytes: table.byteSize('output'),
    stopGraceMs: table.duration('stop_grace', 0, 3_600_000),
  };
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
