import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkMounts } from '../../../src/capabilities/jobs/mount-check.ts';

const links: Readonly<Record<string, string>> = { '/srv/data': '/srv/data', '/srv/swapped': '/etc' };
const paths = { resolve: (path: string) => links[path] };
const mount = (source: string) => ({ source, target: '/mnt', writable: false });

test('what leads where it did when it was allowed passes, and so do volumes', () => {
  checkMounts([mount('/srv/data'), mount('a-volume')], paths);
});

test('a folder that became a link, or is gone, is refused with both paths', () => {
  assert.throws(() => checkMounts([mount('/srv/data'), mount('/srv/swapped')], paths), {
    reason: 'policy',
    rule: 'mounts',
    message: /\/srv\/swapped was allowed, but leads to \/etc now/,
  });
  assert.throws(() => checkMounts([mount('/srv/gone')], paths), { message: /\/srv\/gone is gone/ });
});
