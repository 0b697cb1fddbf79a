import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { describe } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { UapiDevice, uapiPath } from '../../../src/platform/wireguard/uapi-device.ts';
import { declareDeviceContract, type OpenDevice } from './device-contract.ts';

function missing(): string | false {
  if (process.getuid?.() !== 0) return 'needs root';
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun';
  const found = ['/usr/bin', '/usr/local/bin'].some((folder) => existsSync(`${folder}/wireguard-go`));
  return found ? false : 'needs wireguard-go';
}

/** A daemon with an interface of its own, in a network namespace of its own. */
async function open(): Promise<OpenDevice> {
  const name = `llt${process.pid.toString(36)}`;
  execFileSync('ip', ['netns', 'add', name]);
  const daemon = spawn('ip', ['netns', 'exec', name, 'wireguard-go', '-f', name], { stdio: 'ignore' });
  const ended = once(daemon, 'exit');
  const dispose = async () => {
    daemon.kill('SIGTERM');
    await ended;
    execFileSync('ip', ['netns', 'delete', name]);
  };
  const device = new UapiDevice(uapiPath(name), { timeoutMs: 20_000 });
  const limit = AbortSignal.timeout(20_000);
  for (;;) {
    try {
      await device.read(limit);
      return { device, [Symbol.asyncDispose]: dispose };
    } catch (error) {
      if (limit.aborted || daemon.exitCode !== null) {
        await dispose();
        throw error;
      }
      await pause(20);
    }
  }
}

describe('WireGuard behind its socket, wireguard-go', { skip: missing() }, () => declareDeviceContract(open));
