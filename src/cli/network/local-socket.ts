// Where networks of this host are asked for: the agent's socket, or that of a `network up`.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { globalOptions } from '../global-options.ts';
import type { CliIo } from '../io.ts';
import { LocalClient } from '../local-client.ts';

/** Folder of `network up`, unless told otherwise. */
export const DEFAULT_STATE_DIR = '/var/lib/longline-network';
const DEFAULT_AGENT_DIR = '/var/lib/longline';

/** What says where the socket is. */
export interface SocketOptions {
  readonly socket?: string;
  readonly stateDir?: string;
}

/** Adds --socket and --state-dir. */
export function addSocketOptions(command: Command): Command {
  return command
    .option('--socket <path>', 'unix socket to ask (env LONGLINE_NETWORK_SOCKET)')
    .option('--state-dir <path>', `folder of a \`network up\`, to find its socket [default ${DEFAULT_STATE_DIR}]`);
}

/** The socket: as told, else that of a `network up` if there is one, else the agent's. */
export function networkSocket(io: CliIo, { socket, stateDir }: SocketOptions): string {
  const told = socket ?? (stateDir === undefined ? io.env['LONGLINE_NETWORK_SOCKET'] || undefined : undefined);
  if (told !== undefined) return told;
  const own = join(stateDir ?? DEFAULT_STATE_DIR, 'network.sock');
  if (stateDir !== undefined || existsSync(own)) return own;
  const agent = io.env['LONGLINE_LOCAL_SOCKET'] || join(io.env['LONGLINE_DATA_DIR'] || DEFAULT_AGENT_DIR, 'agent.sock');
  return existsSync(agent) ? agent : own;
}

/** A client for it. */
export function openNetworkSocket(io: CliIo, options: SocketOptions, command: Command): LocalClient {
  return new LocalClient(networkSocket(io, options), globalOptions(command, io).timeoutMs);
}
