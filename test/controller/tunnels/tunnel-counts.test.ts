import assert from 'node:assert/strict';
import { it } from 'node:test';
import { TunnelCounts } from '../../../src/controller/tunnels/tunnel-counts.ts';

const session = (id: string, agentId = 'a1') => ({ id, agentId });

it('keeps an agent, a session and a caller each to their own most, and gives places back', () => {
  const counts = new TunnelCounts({ perAgent: 3, perSession: 2, perCaller: 4 });
  const places = [counts.enter(session('s1'), 'alice'), counts.enter(session('s1'), 'bob')];
  assert.throws(() => counts.enter(session('s1'), 'carol'), { reason: 'limit', message: /2 tunnels .* session s1/ });
  places.push(counts.enter(session('s2'), 'alice'));
  assert.throws(() => counts.enter(session('s3'), 'carol'), /3 tunnels are open for agent a1/);
  places.push(counts.enter(session('s4', 'a2'), 'alice'), counts.enter(session('s5', 'a3'), 'alice'));
  assert.throws(() => counts.enter(session('s6', 'a4'), 'alice'), /4 tunnels are open for this API token/);
  // A refusal takes no place of those that had room.
  counts.enter(session('s6', 'a4'), 'bob')[Symbol.dispose]();
  places[0]![Symbol.dispose]();
  places[0]![Symbol.dispose]();
  counts.enter(session('s1'), 'carol');
  assert.throws(() => counts.enter(session('s1'), 'carol'), /session s1|agent a1/);
});
