import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createLogger } from '../../src/telemetry/logger.ts';

const ROOT = join(import.meta.dirname, '../..');
const DOCUMENT = readFileSync(join(ROOT, 'docs/logging.md'), 'utf8');
const SOURCES = globSync('src/**/*.ts', { cwd: ROOT }).map((path) => readFileSync(join(ROOT, path), 'utf8'));
const SECTION = DOCUMENT.slice(DOCUMENT.indexOf('## Fields'), DOCUMENT.indexOf('## Levels'));
const rows = [...SECTION.matchAll(/^\| (`[^|]*) \| (.*) \|$/gm)];
const words = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, word]) => word!);
const fields = rows.flatMap(([, names]) => words(names!));
const meaning = (field: string) => rows.find(([, names]) => words(names!).includes(field))![2]!;

describe('fields of log lines', () => {
  it('are in a line as the document has them, in its order', () => {
    const lines: string[] = [];
    const log = createLogger({ level: 'info', name: 'agent', destination: { write: (line) => void lines.push(line) } });
    log.child({ part: 'link' }).info('message');
    const names = Object.keys(JSON.parse(lines[0]!) as object);
    assert.deepEqual(names, ['level', 'time', 'name', 'pid', 'part', 'msg']);
    for (const name of names) assert.ok(fields.includes(name), name);
  });

  it('are all used somewhere', () => {
    // The message is pino's own.
    const unused = fields.filter(
      (name) => name !== 'msg' && !SOURCES.some((text) => new RegExp(`\\b${name}\\b`).test(text)),
    );
    assert.deepEqual(unused, []);
    assert.ok(fields.length > 20, `${fields.length}`);
  });

  it('have the parts that there are', () => {
    const made = new Set(
      SOURCES.flatMap((text) => [...text.matchAll(/\bchild\(\{ part: '([^']+)'/g)].map(([, part]) => part!)),
    );
    assert.deepEqual(words(meaning('part')).toSorted(), [...made].sort());
  });
});
