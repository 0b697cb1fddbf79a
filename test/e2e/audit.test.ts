// The audit log against the controller's word: heads that the agent signed reach the controller, and with them a log that
// was cut at its end is found out, which the log alone could not show.
import assert from 'node:assert/strict';
import { copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';

interface Checkpoint {
  readonly sequence: number | string;
}

let fleet: Fleet;
let agent: TestAgent;
before(async () => {
  fleet = await startFleet();
  agent = await fleet.enrolled('audited', ['--audit-checkpoint-interval', '1s']);
});
after(() => fleet?.[Symbol.asyncDispose]());

const newestCheckpoint = async (): Promise<number> => {
  const listed = await fleet.longline('audit', 'checkpoints', agent.id, '--json');
  return Number(listed.json<Checkpoint[]>()[0]?.sequence ?? 0);
};

test('a log that was cut is found out by the heads that the controller holds', async () => {
  // There is no engine, so the job fails; that it was asked for is on record all the same.
  const before = await newestCheckpoint();
  assert.notEqual((await fleet.longline('job', 'run', '--agent', agent.id, '--', 'true')).code, 0);
  await fleet.until('a checkpoint over the job', async () => ((await newestCheckpoint()) > before ? true : undefined));
  // Others may follow, up to the end.
  await agent.stop();
  const sequence = await newestCheckpoint();
  const log = join(agent.dataFolder, 'audit.db');
  const verify = () => fleet.longline('audit', 'verify', '--file', log, '--agent', agent.id);
  const whole = await verify();
  assert.equal(whole.code, 0, whole.stderr);

  await copyFile(log, `${log}.whole`);
  cut(log, sequence);
  const alone = await fleet.longline('audit', 'verify', '--file', log);
  assert.equal(alone.code, 0, 'the log alone can not tell');
  const found = await verify();
  assert.equal(found.code, 1);
  assert.match(found.stdout.toString() + found.stderr, new RegExp(`${sequence}`));
  await rm(log);
});

/** Takes away the records from `sequence` on, with every trace that the log itself keeps of them. */
function cut(path: string, sequence: number): void {
  const database = new DatabaseSync(path);
  try {
    const triggers = database.prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all();
    for (const { name } of triggers) database.exec(`DROP TRIGGER ${name}`);
    const tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all();
    for (const { name } of tables) {
      const columns = database.prepare(`SELECT name FROM pragma_table_info('${name}')`).all();
      if (columns.some((column) => column['name'] === 'sequence')) {
        database.prepare(`DELETE FROM ${name} WHERE sequence >= ?`).run(sequence);
      }
    }
    for (const { sql } of triggers) database.exec(String(sql));
  } finally {
    database.close();
  }
}
