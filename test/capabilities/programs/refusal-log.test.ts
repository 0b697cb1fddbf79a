import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isAbout, RefusalLog } from '../../../src/capabilities/programs/refusal-log.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { RecordedLog } from '../../link/scratch.ts';

const error = new LonglineError('invalid', 'ttl_sec: must be a whole number of seconds');

test('what a registry asks for in vain is said once, and again when it is asked for anew', () => {
  const log = new RecordedLog();
  const refusals = new RefusalLog();
  const refused = { source: 'registry' as const, item: 'a-17', program: 'drop', error };
  refusals.note([refused], log);
  refusals.note([refused], log);
  assert.equal(log.lines.length, 1);
  assert.match(JSON.stringify(log.lines[0]), /a-17.*drop.*ttl_sec: must be a whole number/);
  refusals.note([], log);
  refusals.note([refused], log);
  assert.equal(log.lines.length, 2);
});

test('what the controller asks for in vain is told to it and not to the log', () => {
  const log = new RecordedLog();
  new RefusalLog().note([{ source: 'controller', item: 'drop', error }], log);
  assert.deepEqual(log.lines, []);
});

test('a refusal is about the program that it names, else about the item', () => {
  const named = { source: 'registry' as const, item: 'a-17', program: 'drop', error };
  assert.deepEqual([isAbout(named, 'drop', 'registry'), isAbout(named, 'a-17', 'registry')], [true, false]);
  assert.equal(isAbout({ ...named, program: undefined, item: 'drop' }, 'drop', 'registry'), true);
  assert.equal(isAbout(named, 'drop', 'controller'), false);
});
