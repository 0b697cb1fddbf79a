// An agent's part that makes interfaces, as a program of its own, so that tests can run it in a network namespace and kill it.
// Its argument is ChildOptions as JSON; it reads one call a line, as JSON, and answers each with a line.
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { StateFile } from '../../../src/agent/state-file.ts';
import type { InterfaceRequest, OpenInterface } from '../../../src/capabilities/network/ports.ts';
import type { StateStore } from '../../../src/core/capability.ts';
import type { RunCommand } from '../../../src/core/command.ts';
import { toLonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { SecretKey } from '../../../src/core/wireguard-keys.ts';
import { childCommands } from '../../../src/platform/process/child-command.ts';
import { BORINGTUN_CLI, WIREGUARD_GO } from '../../../src/platform/wireguard/daemon-program.ts';
import { daemonUser } from '../../../src/platform/wireguard/daemon-user.ts';
import { InterfaceRecords } from '../../../src/platform/wireguard/interface-record.ts';
import { LinuxInterfaces } from '../../../src/platform/wireguard/linux-interfaces.ts';
import { LinuxLinks } from '../../../src/platform/wireguard/linux-links.ts';
import { linuxDaemonHost, UserSpaceBackend } from '../../../src/platform/wireguard/user-space.ts';

/** How the child is to behave. */
export interface ChildOptions {
  /** Where it keeps its state and the logs of daemons. */
  readonly folder: string;
  readonly instance: string;
  /** Kills itself with SIGKILL in place of its n-th effect, counted from 1 once it was told a call; 0 never. */
  readonly dieAt: number;
}

/** What it can be told. */
export type ChildCall =
  | { readonly kind: 'open'; readonly request: InterfaceRequest }
  | { readonly kind: 'remove' | 'lost' | 'peers'; readonly name: string }
  | {
      readonly kind: 'write';
      readonly name: string;
      readonly key?: string;
      readonly fwmark?: number;
      readonly listenPort?: number;
    }
  /** Forges the record, as if the daemon had had this pid. */
  | { readonly kind: 'set_pid'; readonly name: string; readonly pid: number }
  | { readonly kind: 'list' | 'backends' };

const options = JSON.parse(process.argv[2]!) as ChildOptions;
let effects = 0;

/** Counts an effect, and dies in its place if it is the one. */
function before(): void {
  effects += 1;
  if (effects === options.dieAt) process.kill(process.pid, 'SIGKILL');
}

function dying<Host extends object>(host: Host, effectful: (name: string) => boolean): Host {
  return new Proxy(host, {
    get: (target, name, receiver) => {
      const value = Reflect.get(target, name, receiver) as unknown;
      if (typeof value !== 'function' || !effectful(String(name))) return value;
      return (...args: unknown[]) => {
        before();
        return Reflect.apply(value, target, args) as unknown;
      };
    },
  });
}

const file = await StateFile.open(`${options.folder}/state`, {
  log: silentLogger,
});
const state: StateStore = dying(file.namespace('network'), (name) => name === 'put' || name === 'delete');
const child = childCommands();
const run: RunCommand = async (command, signal) => {
  if (!command.argv.includes('show')) before();
  return await child(command, signal);
};
const host = dying(
  {
    ...linuxDaemonHost,
    launch: async (...args: Parameters<typeof linuxDaemonHost.launch>) =>
      dying(await linuxDaemonHost.launch(...args), (name) => name === 'go'),
  },
  () => true,
);
const links = new LinuxLinks(run);
const label = `longline:${options.instance}`;
const parts = { program: WIREGUARD_GO, links, label, logFolder: options.folder, user: daemonUser(), host };
const boringtun = { ...BORINGTUN_CLI, folders: [join(import.meta.dirname, '../../fixtures/bin')] };
const interfaces = new LinuxInterfaces({
  backends: [
    new UserSpaceBackend('wireguard-go', parts),
    new UserSpaceBackend('boringtun', { ...parts, program: boringtun }),
  ],
  links,
  label,
  state,
});
const open = new Map<string, OpenInterface>();

async function answer(call: ChildCall): Promise<unknown> {
  switch (call.kind) {
    case 'open': {
      const opened = await interfaces.open(call.request);
      open.set(call.request.name, opened);
      const { adopted, foreign, kind, realName } = opened;
      return { adopted, foreign, kind, realName, effects };
    }
    case 'remove':
      await interfaces.remove(call.name);
      return { effects };
    case 'lost':
      return await open.get(call.name)!.lost(AbortSignal.timeout(60_000));
    case 'peers':
      return (await open.get(call.name)!.device.read()).publicKey ?? null;
    case 'write': {
      const { key, kind, name, ...own } = call;
      const privateKey = key === undefined ? undefined : SecretKey.parse(key)!;
      return await open.get(name)!.device.write({ ...own, ...(privateKey && { privateKey }), peers: [] });
    }
    case 'set_pid': {
      const records = new InterfaceRecords(state);
      const record = (await records.get(call.name))!;
      return await records.put({ ...record, daemon: { ...record.daemon!, pid: call.pid } });
    }
    case 'list':
      return await interfaces.list();
    case 'backends':
      return await interfaces.backends();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  effects = 0;
  const reply = await answer(JSON.parse(line) as ChildCall).then(
    (value) => ({ value: value ?? null }),
    (error: unknown) => ({ error: { reason: toLonglineError(error).reason, message: String(error) } }),
  );
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
await file[Symbol.asyncDispose]();
