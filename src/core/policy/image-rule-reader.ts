// Reads what the rules of images for jobs and for sessions have in common.
import { EVERY_IMAGE, type ImagePattern, parseImagePattern } from '../images/image-pattern.ts';
import type { TomlTable } from '../toml/toml-table.ts';
import type { ImageRule, MountRule } from './policy.ts';

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
// "*" alone would leave the group to the engine, which gives a number that the image doesn't know the group of root.
const USER = /^(?:[A-Za-z0-9_.-]+|(?:\*|[A-Za-z0-9_.-]+):(?:\*|[A-Za-z0-9_.-]+))$/;
const USER_FORM = '"UID:GID" of numbers, names or "*", or a user by itself';
const MAX_MEMORY_BYTES = 2 ** 50;

/** Keys that both kinds of rules have. */
export type CommonRule = Pick<
  ImageRule,
  'rule' | 'pattern' | 'requireDigest' | 'users' | 'capabilities' | 'runtimes' | 'newPrivileges'
>;

/** Reads the rules of one list. */
export class ImageRuleReader {
  readonly #prefix: string;
  readonly #seen = new Set<string>();

  /** @param prefix names the list in refusals: "images". */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  common(table: TomlTable, position: number): CommonRule {
    const name = table.string('name', NAME, '1 to 64 characters of [A-Za-z0-9_-]');
    if (name !== undefined && this.#seen.has(name)) {
      table.fail('name', `${JSON.stringify(name)} names an earlier rule too`);
    }
    if (name !== undefined) this.#seen.add(name);
    const pattern = imagePattern(table);
    const capability = /^(?!CAP_)[A-Z][A-Z0-9_]*$/;
    return {
      rule: name === undefined ? `${this.#prefix}[${position}]` : `${this.#prefix}.${name}`,
      pattern,
      requireDigest: table.boolean('require_digest') ?? false,
      users: table.strings('users', USER, USER_FORM) ?? [],
      capabilities: table.strings('capabilities', capability, 'a Linux capability such as "NET_BIND_SERVICE"') ?? [],
      runtimes: table.strings('runtimes', /^[A-Za-z0-9_.-]+$/, 'the name of an engine runtime such as "runsc"') ?? [],
      newPrivileges: table.boolean('new_privileges') ?? false,
    };
  }

  /** Networks by mode, or by pattern as "named:PATTERN". */
  networks(table: TomlTable, modes: readonly string[]): readonly string[] {
    const form = `${modes.map((mode) => `"${mode}"`).join(', ')} or "named:PATTERN"`;
    return table.strings('networks', new RegExp(`^(${modes.join('|')}|named:[A-Za-z0-9_.*-]+)$`), form) ?? [];
  }

  /** Host folders, and volumes if they may be listed too. */
  mounts(table: TomlTable, volumes: boolean): readonly MountRule[] {
    return table.tables('mounts').map((mount) => mountRule(mount, volumes));
  }
}

/** What can't be read stands for every image: the file is refused for it anyway. */
function imagePattern(table: TomlTable): ImagePattern {
  const text = table.requiredString('pattern') ?? '';
  const pattern = text === '' ? EVERY_IMAGE : parseImagePattern(text);
  if (typeof pattern !== 'string') return pattern;
  table.fail('pattern', pattern);
  return EVERY_IMAGE;
}

function mountRule(table: TomlTable, volumes: boolean): MountRule {
  const source = table.requiredString('source') ?? '';
  const isVolume = volumes && /^volume:[A-Za-z0-9_.*-]+$/.test(source);
  const isPath = source.startsWith('/') && !source.includes('\0') && !source.split('/').includes('..');
  if (source !== '' && !isVolume && !isPath) {
    const form = `must be an absolute path without ".."${volumes ? ' or "volume:PATTERN"' : ''}`;
    table.fail('source', `${JSON.stringify(source)}: ${form}`);
  }
  return { source, writable: table.boolean('writable') ?? false };
}

/** A limit of memory. */
export function memoryOf(table: TomlTable): number | undefined {
  const bytes = table.byteSize('memory');
  if ((bytes ?? 0) > MAX_MEMORY_BYTES) table.fail('memory', 'more than any host has; at most "1024TiB"');
  return bytes;
}
