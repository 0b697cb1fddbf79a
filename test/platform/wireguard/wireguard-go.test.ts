import { describe } from 'node:test';
import { NetworkLab, wireguardMissing } from '../../fixtures/netns.ts';
import { WireguardDaemon } from '../../fixtures/wireguard-daemon.ts';
import { declareDeviceContract, type OpenDevice } from './device-contract.ts';

/** A daemon with an interface of its own, in a network namespace of its own. */
async function open(): Promise<OpenDevice> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(await NetworkLab.create(1));
  const { device } = stack.use(await WireguardDaemon.start(lab.hosts[0]!));
  const owned = stack.move();
  return { device, [Symbol.asyncDispose]: async () => await owned.disposeAsync() };
}

describe('WireGuard behind its socket, wireguard-go', { skip: wireguardMissing() ?? false }, () => {
  declareDeviceContract(open);
});
