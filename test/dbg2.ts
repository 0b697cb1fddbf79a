import { FaultProxy } from './fixtures/fault-proxy.ts';
import { startFleet } from './fixtures/fleet.ts';
const fleet = await startFleet({ controllerArgs: ['--heartbeat', '1s', '--log-level', 'debug'] });
const proxy = await FaultProxy.start(Number(new URL(fleet.url).port));
const agent = await fleet.enrolled('h', ['--log-level', 'debug', '--reconnect-cap', '1s'], `https://127.0.0.1:${proxy.port}`);
const state = async () => (await fleet.longline('agents', 'get', 'h', '--json')).json<{ state: string }>().state;
const t0 = Date.now();
const kind = process.argv[2]!;
for (let i = 0; i < 3; i++) {
  console.log(Date.now() - t0, 'inject');
  const before = proxy.accepted;
  if (kind === 'half') { proxy.inject({ kind: 'half_open' }); while ((await state()) === 'online'); proxy.inject({ kind: 'pass' }); }
  else { proxy.inject({ kind: 'cut_after', bytes: Number(process.argv[3]) }); while (proxy.accepted === before) await state(); }
  console.log(Date.now() - t0, 'pass'); proxy.inject({ kind: 'pass' });
  while ((await state()) !== 'online');
  console.log(Date.now() - t0, 'online');
}
console.log(agent.command.stderr.split('\n').filter((l) => !l.includes('jobs')).slice(-24).map((l) => l.slice(0, 330)).join('\n'));
await fleet[Symbol.asyncDispose]();
await proxy[Symbol.asyncDispose]();
