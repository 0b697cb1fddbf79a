import assert from 'node:assert/strict';
import { it } from 'node:test';
import { replicaName, sharedPlaces } from '../../../src/agent/ha/replica-name.ts';

const name = (port: number, socket?: string, address = '127.0.0.1') => replicaName({ address, port, socket });

it('replicas of a host know which places they share, and nothing of other hosts', () => {
  const own = name(8080, '/run/a.http');
  assert.notEqual(own, name(8080, '/run/a.http'), 'each is one of its own');
  const shared = (other: string) => [...sharedPlaces(own, other)];
  assert.deepEqual(shared(name(8080, '/run/a.http')), ['http.port', 'http.socket']);
  assert.deepEqual(shared(name(8080, '/run/b.http')), ['http.port']);
  assert.deepEqual(shared(name(8081, '/run/a.http')), ['http.socket']);
  assert.deepEqual(shared(name(8080, undefined, '10.0.0.1')), []);
  assert.deepEqual([...sharedPlaces(name(0), name(0))], [], 'no place is none to share');
  assert.deepEqual(shared(own), [], 'its own are not another one’s');
  assert.deepEqual(shared(`elsewhere${name(8080, '/run/a.http').slice(name(0).indexOf('/'))}`), []);
  assert.deepEqual(shared('whoever'), [], 'a name of another form');
});
