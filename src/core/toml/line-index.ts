// On which line a key of a TOML file stands, so that errors can say so. smol-toml gives values without positions.

/** Line numbers from 1 by key path ("images[0].pattern"). Keys inside inline tables have the line of the whole. */
export type LineIndex = ReadonlyMap<string, number>;

const KEY_PART = /^\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*/;

/** Indexes text that parsed as TOML. */
export function indexLines(text: string): LineIndex {
  const index = new Map<string, number>();
  const arraySizes = new Map<string, number>();
  let table = '';
  let state: ScanState = { depth: 0, quote: '' };
  for (const [position, line] of text.split('\n').entries()) {
    const inside = state.depth > 0 || state.quote !== '';
    if (!inside) {
      const header = /^\s*(\[\[?)(.*)$/.exec(line);
      if (header !== null) {
        table = tablePath(dottedKey(header[2]!).parts, header[1] === '[[', arraySizes);
        index.set(table, position + 1);
        continue;
      }
      const { parts, rest } = dottedKey(line);
      if (parts.length > 0 && rest.startsWith('=')) {
        for (let count = 1; count <= parts.length; count++) {
          const path = [table, ...parts.slice(0, count)].filter((part) => part !== '').join('.');
          if (!index.has(path)) index.set(path, position + 1);
        }
      }
    }
    state = scanLine(line, state);
  }
  return index;
}

function dottedKey(text: string): { readonly parts: readonly string[]; readonly rest: string } {
  const parts: string[] = [];
  let rest = text;
  for (;;) {
    const match = KEY_PART.exec(rest);
    if (match === null) return { parts, rest };
    parts.push(match[1] ?? match[2] ?? match[3] ?? '');
    rest = rest.slice(match[0].length);
    if (!rest.startsWith('.')) return { parts, rest };
    rest = rest.slice(1);
  }
}

/** The path of a table header: every part that is an array of tables means its latest element. */
function tablePath(parts: readonly string[], isArray: boolean, sizes: Map<string, number>): string {
  let path = '';
  for (const [position, part] of parts.entries()) {
    path = path === '' ? part : `${path}.${part}`;
    if (isArray && position === parts.length - 1) sizes.set(path, (sizes.get(path) ?? 0) + 1);
    const size = sizes.get(path);
    if (size !== undefined) path = `${path}[${size - 1}]`;
  }
  return path;
}

/** What is still open at the end of a line: brackets, and a multi-line string by its quotes. */
interface ScanState {
  readonly depth: number;
  readonly quote: string;
}

function scanLine(line: string, before: ScanState): ScanState {
  let { depth, quote } = before;
  for (let at = 0; at < line.length; at++) {
    const character = line[at]!;
    if (quote !== '') {
      if (character === '\\' && quote[0] === '"') at += 1;
      else if (line.startsWith(quote, at)) {
        at += quote.length - 1;
        quote = '';
      }
    } else if (character === '#') break;
    else if (character === '"' || character === "'") {
      quote = line.startsWith(character.repeat(3), at) ? character.repeat(3) : character;
      at += quote.length - 1;
    } else if (character === '[' || character === '{') depth += 1;
    else if (character === ']' || character === '}') depth -= 1;
  }
  return { depth: Math.max(depth, 0), quote: quote.length === 3 ? quote : '' };
}
