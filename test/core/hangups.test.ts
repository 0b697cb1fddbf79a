import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Hangups } from '../../src/core/hangups.ts';

const turn = async () => await new Promise(setImmediate);

it('SIGHUP is heeded once it can be if it comes early, goes to the latest handler, and is ignored at the end', async () => {
  const before = process.listenerCount('SIGHUP');
  const heard: string[] = [];
  {
    using hangups = new Hangups();
    process.emit('SIGHUP');
    process.emit('SIGHUP');
    {
      using _standby = hangups.handle(() => heard.push('standby'));
      await turn();
      assert.deepEqual(heard, ['standby'], 'once for all that came early');
      {
        using _leader = hangups.handle(() => heard.push('leader'));
        process.emit('SIGHUP');
      }
      process.emit('SIGHUP');
      assert.deepEqual(heard, ['standby', 'leader', 'standby']);
    }
    process.emit('SIGHUP');
    await turn();
    assert.equal(heard.length, 3);
    assert.equal(process.listenerCount('SIGHUP'), before + 1, 'and ends nothing');
  }
  assert.equal(process.listenerCount('SIGHUP'), before);
});
