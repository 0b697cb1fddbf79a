import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { changedSettings, liveView, refusedSettings } from '../../../src/core/config/changed-settings.ts';
import { Secret } from '../../../src/core/config/secret.ts';
import { defineConfig, secret, setting } from '../../../src/core/config/setting.ts';
import * as type from '../../../src/core/config/value-type.ts';

const { table } = defineConfig('thing', {
  level: setting(type.string(), { key: 'level', group: 'g', description: 'd', default: 'info', live: true }),
  region: setting(type.string(), { key: 'region', group: 'g', description: 'd' }),
  token: secret({ key: 'token', group: 'g', description: 'd' }),
  keep: { jobs: setting(type.int({ min: 1, max: 9 }), { key: 'keep.jobs', group: 'g', description: 'd', default: 3 }) },
});

describe('settings that were changed', () => {
  const before = { level: 'info', region: 'eu', token: new Secret('a'), keep: { jobs: 3 } };

  it('are told by key, value and whether they hold at once; secrets by none', () => {
    assert.deepEqual(changedSettings(table, before, { ...before, token: new Secret('a'), keep: { jobs: 3 } }), []);
    const next = { level: 'warn', region: undefined, token: new Secret('b'), keep: { jobs: 4 } };
    const changed = changedSettings(table, before, next);
    assert.deepEqual(changed, [
      { key: 'level', value: '"warn"', live: true },
      { key: 'region', value: '', live: false },
      { key: 'token', value: '"[redacted]"', live: false },
      { key: 'keep.jobs', value: '4', live: false },
    ]);
    const refused = refusedSettings(changed, 'thing');
    assert.deepEqual(
      refused.map(({ key }) => key),
      ['region', 'token', 'keep.jobs'],
    );
    assert.equal(refused[0]!.reason, 'it takes effect at the next start of the thing only');
  });

  it('what was left out counts as the default', () => {
    assert.deepEqual(changedSettings(table, { region: 'eu', token: new Secret('a') }, before), []);
  });

  it('show in a view without being handed over again', () => {
    let now = { jobs: 3, logs: 5 };
    const view = liveView(() => now);
    assert.deepEqual({ ...view }, { jobs: 3, logs: 5 });
    now = { jobs: 4, logs: 6 };
    assert.deepEqual([view.jobs, view.logs], [4, 6]);
    assert.throws(() => Object.assign(view, { jobs: 9 }), TypeError);
  });
});
