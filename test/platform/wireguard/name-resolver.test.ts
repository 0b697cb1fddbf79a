import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NameResolver } from '../../../src/platform/wireguard/name-resolver.ts';

/** A resolver over a table that a test changes. */
function over(table: Map<string, readonly string[]>, options: { readonly limitMs?: number } = {}) {
  const asked: string[] = [];
  const lookUp = async (host: string) => {
    asked.push(host);
    const found = table.get(host);
    if (found === undefined) throw new Error('ENOTFOUND');
    return found;
  };
  return { asked, resolver: new NameResolver({ lookUp, ...options }) };
}

describe('addresses of endpoints', () => {
  it('come from the system, in the form that WireGuard takes', async () => {
    const { asked, resolver } = over(
      new Map([
        ['hub', ['192.0.2.7']],
        ['six', ['2001:DB8::0:1']],
      ]),
    );
    assert.deepEqual(
      [...(await resolver.resolve(['hub:51820', 'six:7', 'hub:1']))],
      [
        ['hub:51820', '192.0.2.7:51820'],
        ['six:7', '[2001:db8::1]:7'],
        ['hub:1', '192.0.2.7:1'],
      ],
    );
    assert.deepEqual(asked.sort(), ['hub', 'six'], 'a host is asked for once');
    const local = await new NameResolver().resolve(['localhost:9']);
    assert.match(local.get('localhost:9')!, /^(127\.0\.0\.1|\[::1\]):9$/);
  });

  it('stay while they are among those of the name, and as long as there are no others', async () => {
    const table = new Map([['hub', ['192.0.2.1', '192.0.2.2']]]);
    const { resolver } = over(table);
    const now = async (failing: string[] = []) =>
      (await resolver.resolve(['hub:1'], undefined, new Set(failing))).get('hub:1');
    assert.equal(await now(), '192.0.2.1:1');
    table.set('hub', ['192.0.2.2', '192.0.2.1']);
    assert.equal(await now(), '192.0.2.1:1');
    assert.equal(await now(['hub:1']), '192.0.2.2:1', 'one that fails is left for the next');
    table.delete('hub');
    assert.equal(await now(), '192.0.2.2:1');
    table.set('hub', ['192.0.2.9']);
    assert.equal(await now(), '192.0.2.9:1');
    assert.equal((await resolver.resolve(['nowhere:1'])).size, 0);
  });

  it('are not waited for past a limit, and a lookup that hangs is not begun again', async () => {
    const hanging = Promise.withResolvers<readonly string[]>();
    const asked: string[] = [];
    const lookUp = async (host: string) => {
      asked.push(host);
      return host === 'slow' ? await hanging.promise : ['192.0.2.3'];
    };
    const resolver = new NameResolver({ lookUp, limitMs: 50 });
    assert.deepEqual([...(await resolver.resolve(['slow:1', 'fast:1'])).keys()], ['fast:1']);
    await resolver.resolve(['slow:1']);
    assert.equal(asked.filter((host) => host === 'slow').length, 1);
    hanging.resolve(['192.0.2.4']);
    assert.equal((await resolver.resolve(['slow:1'])).get('slow:1'), '192.0.2.4:1');
    assert.equal((await resolver.resolve(['other:1'], AbortSignal.abort())).size, 0);
  });
});
