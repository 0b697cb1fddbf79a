// `longline network up` and `down`: the one place of the command line that runs networks without an agent.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { Hangups } from '../../core/hangups.ts';
import { BACKENDS, type BackendChoice } from '../../core/network/network-spec.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { countValue, durationValue } from '../option-values.ts';
import { ShutdownLimit } from '../shutdown-limit.ts';
import {
  addSocketOptions,
  DEFAULT_STATE_DIR,
  networkSocket,
  openNetworkSocket,
  type SocketOptions,
} from './local-socket.ts';

const MODES = ['service', 'ephemeral', 'container'] as const;
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;
const SECOND = 1000;

const UP_HELP = `
Modes:
  service     the networks outlive the process, and the next one adopts them
  ephemeral   they are taken down at the end: SIGTERM, Ctrl-C, or with --with-parent the end of standard input
  container   as ephemeral, for the first process of a container

The file is read again when it changes and on SIGHUP; one that is wrong keeps what was there. A private key can be given as
LONGLINE_NETWORK_<NAME>_PRIVATE_KEY in place of private_key_path. When all networks have been brought about once, one line
tells where the sockets are: {"ready":true,"socket":PATH,"control_socket":PATH}.

Example:
  longline network up --config /etc/longline/network.toml --mode service`;

interface UpOptions {
  readonly config?: string;
  readonly mode?: (typeof MODES)[number];
  readonly stateDir?: string;
  readonly socket?: string;
  readonly controlSocket?: string;
  readonly backend: BackendChoice;
  readonly reconcileInterval: number;
  readonly peerDetails: number;
  readonly logLevel: (typeof LEVELS)[number];
  readonly withParent?: boolean;
  readonly shutdownLimit: number;
}

/** Adds `up`. */
export function registerUp(network: Command, io: CliIo): void {
  network
    .command('up')
    .description('Keep the networks of a file, with no controller and no agent.')
    .option('--config <path>', 'file of networks (env LONGLINE_NETWORK_CONFIG)')
    .addOption(
      new Option('--mode <mode>', 'what becomes of them at the end (env LONGLINE_NETWORK_MODE)').choices(MODES),
    )
    .option(
      '--state-dir <path>',
      `folder of keys and state (env LONGLINE_NETWORK_STATE_DIR) [default ${DEFAULT_STATE_DIR}]`,
    )
    .option('--socket <path>', 'unix socket for gRPC [default network.sock in the folder]')
    .option('--control-socket <path>', 'unix socket for JSON messages [default control.sock in the folder]')
    .addOption(
      new Option('--backend <kind>', "WireGuard of networks that don't say")
        .choices(['auto', ...BACKENDS])
        .default('auto'),
    )
    .option('--reconcile-interval <duration>', 'longest time between two looks', durationValue, 30 * SECOND)
    .option('--peer-details <count>', 'peers that are told of one by one', countValue(0, 65_536), 1000)
    .addOption(
      new Option('--log-level <level>', 'least severe lines on standard error').choices(LEVELS).default('info'),
    )
    .option(
      '--shutdown-limit <duration>',
      'how long an orderly end may take; after that the process is killed',
      durationValue,
      20 * SECOND,
    )
    .option('--with-parent', 'end when standard input ends, as it does with the program that started it')
    .addHelpText('after', UP_HELP)
    .action(async (options: UpOptions) => await up(io, options));
}

const DOWN_HELP = `
Those of a file that is being kept: set enable_wireguard = false there. What a process has left that was stopped or killed is taken down
from its folder; the next one makes what is still in its file again.`;

interface DownOptions extends SocketOptions {
  readonly all?: boolean;
}

/** Adds `down`. */
export function registerDown(network: Command, io: CliIo): void {
  addSocketOptions(network.command('down [name...]'))
    .description('Take networks down that were asked for on this host.')
    .option('--all', 'all that a `network up` in service mode has left; it must not run any more')
    .addHelpText('after', DOWN_HELP)
    .action(async (names: readonly string[], options: DownOptions, command: Command) => {
      if ((names.length === 0) === (options.all !== true)) {
        throw new LonglineError('invalid', 'name the networks to take down, or give --all');
      }
      if (options.all) return await downLeft(io, options, undefined);
      if (await isLeft(io, options)) return await downLeft(io, options, names);
      using client = openNetworkSocket(io, options, command);
      for (const name of names) await client.call(LocalService.method.removeNetwork, { name });
      await io.result({ removed: names }, () => names.map((name) => `${name} is down`).join('\n'));
    });
}

async function up(io: CliIo, options: UpOptions): Promise<void> {
  const file = options.config ?? io.env['LONGLINE_NETWORK_CONFIG'];
  if (!file) throw new LonglineError('invalid', '--config: missing; give the file of networks');
  const mode = options.mode ?? modeOf(io.env['LONGLINE_NETWORK_MODE'] || 'service');
  using hangups = new Hangups();
  using interrupt = new InterruptGuard();
  const ending = new AbortController();
  const end = () => ending.abort(interrupt.signal.reason);
  interrupt.signal.addEventListener('abort', end, { once: true });
  if (options.withParent) endWithInput(io, ending);
  using _ = new ShutdownLimit(ending.signal, () => options.shutdownLimit, '--shutdown-limit');
  const { runStandalone } = await import('../../agent/network/standalone.ts');
  const { backend, peerDetails, reconcileInterval: reconcileIntervalMs, logLevel, socket, controlSocket } = options;
  const running = runStandalone(
    {
      ...{ file: resolve(file), mode, backend, peerDetails, reconcileIntervalMs, logLevel, socket, controlSocket },
      stateFolder: stateFolder(io, options),
      env: io.env,
      hangups,
    },
    async (sockets) => {
      const { socket: path, controlSocket: control } = sockets;
      await io.stdout.line(toJson({ ready: true, socket: path, control_socket: control }));
    },
    ending.signal,
  );
  await running.catch((error: unknown) => {
    if (error !== ending.signal.reason) throw error;
  });
}

/** True if the networks are those of a `network up` that doesn't run any more: nobody answers, and its folder is there. */
async function isLeft(io: CliIo, options: DownOptions): Promise<boolean> {
  const folder = stateFolder(io, options);
  const socket = networkSocket(io, options);
  if (resolve(socket) !== join(folder, 'network.sock') || !existsSync(join(folder, 'state'))) return false;
  const { isServed } = await import('../../agent/network/standalone.ts');
  return !(await isServed(socket));
}

async function downLeft(io: CliIo, options: DownOptions, names: readonly string[] | undefined): Promise<void> {
  const { takeDownLeft } = await import('../../agent/network/standalone.ts');
  const removed = await takeDownLeft(stateFolder(io, options), names, io.env).catch((error: unknown) => {
    if (!(error instanceof LonglineError && error.reason === 'already_exists')) throw error;
    const mend = `if that is a \`network up\`, stop it first, or name the networks to take down while it runs, with its --socket`;
    throw new LonglineError('already_exists', `${error.message}; ${mend}`, { cause: error });
  });
  await io.result({ removed }, () => (removed.length === 0 ? 'there was nothing' : `${removed.join(', ')} down`));
}

function stateFolder(io: CliIo, { stateDir }: { readonly stateDir?: string }): string {
  return resolve(stateDir ?? (io.env['LONGLINE_NETWORK_STATE_DIR'] || DEFAULT_STATE_DIR));
}

function modeOf(text: string): (typeof MODES)[number] {
  const mode = MODES.find((one) => one === text);
  if (mode !== undefined) return mode;
  throw new LonglineError('invalid', `LONGLINE_NETWORK_MODE: "${text}" must be one of ${MODES.join(', ')}`);
}

function endWithInput(io: CliIo, ending: AbortController): void {
  const stop = () => ending.abort(new LonglineError('cancelled', 'standard input ended'));
  io.stdin.once('end', stop);
  io.stdin.once('error', stop);
  io.stdin.resume();
}
