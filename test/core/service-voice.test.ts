import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LonglineError } from '../../src/core/errors.ts';
import { type Logger, silentLogger } from '../../src/core/logger.ts';
import { Progress } from '../../src/core/progress.ts';
import { ServiceVoice } from '../../src/core/service-voice.ts';
import { ManualClock } from '../fixtures/manual-clock.ts';

const WATCHED = { NOTIFY_SOCKET: '/run/notify', WATCHDOG_USEC: '20000000' };
const BEAT_MS = 10_000;

function voice(environment: Record<string, string>, log: Logger = silentLogger, fail = () => false) {
  const clock = new ManualClock();
  const told: string[] = [];
  const tell = (socket: string | undefined, ...states: readonly string[]) => {
    if (fail()) throw new LonglineError('unavailable', `nobody reads ${socket}`);
    told.push(states.join(' '));
  };
  const beats: string[] = [];
  const one = new ServiceVoice({ environment, clock, log, tell, onBeat: (result) => void beats.push(result) });
  /** What is told at the next beat. */
  const beat = async (ms = BEAT_MS) => {
    told.length = 0;
    clock.advance(ms);
    await new Promise(setImmediate);
    return [...told];
  };
  return { one, clock, told, beat, beats };
}

describe('word to the service manager', () => {
  it('asks for time while it starts, then tells at half of what the watchdog waits, and of its end', async () => {
    const { one, told, beat } = voice(WATCHED);
    assert.deepEqual(await beat(), ['EXTEND_TIMEOUT_USEC=60000000']);
    let status = 'link open';
    told.length = 0;
    one.ready({ tasks: () => [], status: () => status });
    assert.deepEqual(told, ['READY=1 WATCHDOG=1 STATUS=link open']);
    assert.deepEqual(await beat(BEAT_MS - 1), [], 'no sooner than it has to');
    assert.deepEqual(await beat(1), ['WATCHDOG=1']);
    status = 'link backing_off';
    assert.deepEqual(await beat(), ['WATCHDOG=1 STATUS=link backing_off']);
    one.stopping();
    one.stopping();
    assert.deepEqual(told.slice(1), ['STOPPING=1 STATUS=stopping']);
    assert.deepEqual(await beat(), ['WATCHDOG=1'], 'a drain is no hang');
    one.ready({ tasks: () => [], status: () => '' });
    assert.deepEqual(await beat(), ['WATCHDOG=1'], 'it ends, though its start went on for a while');
    await one[Symbol.asyncDispose]();
    assert.deepEqual(await beat(), []);
  });

  it('frames a reload, also one that is refused', async () => {
    const { one, told } = voice(WATCHED);
    assert.equal(await one.reload(async () => 4), 4);
    assert.deepEqual(told, [], 'READY=1 after it would be too early');
    one.ready({ tasks: () => [], status: () => '' });
    told.length = 0;
    assert.equal(await one.reload(async () => 5), 5);
    await assert.rejects(
      one.reload(async () => {
        throw new Error('bad file');
      }),
      /bad file/,
    );
    assert.deepEqual(told, ['RELOADING=1', 'READY=1', 'RELOADING=1', 'READY=1']);
    told.length = 0;
    await one.reload(async () => one.stopping());
    await one.reload(async () => undefined);
    assert.deepEqual(told, ['RELOADING=1', 'STOPPING=1 STATUS=stopping'], 'it does not come back from its end');
    await one[Symbol.asyncDispose]();
  });

  it('keeps silent towards the watchdog while a task is stuck, and says which', async () => {
    const errors: string[] = [];
    const log = { ...silentLogger, error: (_: string, fields?: object) => void errors.push(JSON.stringify(fields)) };
    const { one, clock, beat, beats } = voice(WATCHED, log);
    const task = new Progress('link', clock);
    one.ready({ tasks: () => [new Progress('other', clock), task], status: () => '' });
    task.expect(1_000, 'a try to connect');
    assert.deepEqual(await beat(), ['WATCHDOG=1'], 'late once may be the whole process');
    assert.deepEqual(await beat(), ['STATUS=stuck: link: a try to connect']);
    assert.deepEqual(await beat(), ['STATUS=stuck: link: a try to connect']);
    assert.deepEqual(errors, ['{"task":"link: a try to connect"}'], 'said once');
    task.rest();
    assert.deepEqual(await beat(), ['WATCHDOG=1 STATUS=']);
    assert.deepEqual(beats, ['told', 'withheld', 'withheld', 'told']);
    await one[Symbol.asyncDispose]();
  });

  it('is patient with a process that was held up as a whole, and with tasks that are late and move', async () => {
    const { one, clock, beat } = voice(WATCHED);
    const task = new Progress('link', clock);
    one.ready({ tasks: () => [task], status: () => '' });
    for (let turn = 0; turn < 5; turn += 1) {
      task.expect(1_000, 'a heartbeat');
      assert.deepEqual(await beat(BEAT_MS * 3), ['WATCHDOG=1']);
    }
    await one[Symbol.asyncDispose]();
  });

  it('tells nobody where nobody asked, and has no watchdog that is meant for another process', async () => {
    const nobody = voice({ WATCHDOG_USEC: '20000000' });
    nobody.one.ready({ tasks: () => [], status: () => '' });
    assert.deepEqual(await nobody.beat(), []);
    const other = voice({ ...WATCHED, WATCHDOG_USEC: '2000000', WATCHDOG_PID: '1' });
    assert.deepEqual(await other.beat(1_000), []);
    const mine = voice({ ...WATCHED, WATCHDOG_USEC: '2000000', WATCHDOG_PID: String(process.pid) });
    assert.equal((await mine.beat(1_000)).length, 1);
    for (const { one } of [nobody, other, mine]) await one[Symbol.asyncDispose]();
  });

  it('says once that the manager is not to be reached, and goes on', async () => {
    const warnings: string[] = [];
    const log = { ...silentLogger, warn: (message: string) => void warnings.push(message) };
    let gone = true;
    const { one, beat } = voice(WATCHED, log, () => gone);
    one.ready({ tasks: () => [], status: () => '' });
    await beat();
    assert.equal(warnings.length, 1);
    gone = false;
    assert.deepEqual(await beat(), ['WATCHDOG=1']);
    await one[Symbol.asyncDispose]();
  });
});
