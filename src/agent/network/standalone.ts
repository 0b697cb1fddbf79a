// A process that keeps the networks of one file, with no controller and no agent: for hosts, sidecars and applications that want a
// tunnel and nothing else. It opens the same capability as the agent, on a folder of its own, and reads the file again whenever it
// changes; a file that is wrong keeps what was there. In service mode the networks outlive the process and are adopted by the next;
// otherwise they are taken down at its end. A start that can't succeed fails with a LonglineError that names setting or file.
import { readFile, stat } from 'node:fs/promises';
import type { NetworkCapability } from '../../capabilities/network/capability.ts';
import { DEFAULT_NETWORK_CONFIG, type NetworkConfig } from '../../capabilities/network/config.ts';
import type { Availability } from '../../core/capability.ts';
import { systemClock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Hangups } from '../../core/hangups.ts';
import type { Logger } from '../../core/logger.ts';
import { type NetworkFile, readNetworkFile } from '../../core/network/network-file.ts';
import { Progress } from '../../core/progress.ts';
import { ServiceVoice } from '../../core/service-voice.ts';
import { TaskGroup } from '../../core/task-group.ts';
import { tellServiceManager } from '../../platform/process/service-manager.ts';
import { createLogger, type LogLevel } from '../../telemetry/logger.ts';
import { type DataFolder, openDataFolder } from '../data-folder.ts';
import { LocalServer } from '../local/local-server.ts';
import { openNetworks } from '../network-setup.ts';
import { StateFile } from '../state-file.ts';
import { ControlSocket } from './control-socket.ts';
import { networkCalls } from './network-calls.ts';
import { StatusServers } from './status-servers.ts';

export { isServed } from '../local/socket-path.ts';

/** What becomes of the networks when the process ends. */
export type RunMode = 'service' | 'ephemeral' | 'container';

/** How the process runs. */
export interface StandaloneOptions extends NetworkConfig {
  /** File of networks. */
  readonly file: string;
  readonly mode: RunMode;
  /** Folder of keys and of what was done. */
  readonly stateFolder: string;
  /** Sockets; by default network.sock and control.sock in the folder. */
  readonly socket: string | undefined;
  readonly controlSocket: string | undefined;
  readonly logLevel: LogLevel;
  readonly hangups: Hangups;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** How often the file is looked at. */
const LOOK_EVERY_MS = 1_000;
/** More than a reload takes, which waits a minute for networks at most. */
const RELOAD_LIMIT_MS = 300_000;

interface Running {
  readonly options: StandaloneOptions;
  readonly networks: NetworkCapability;
  readonly servers: StatusServers;
  readonly log: Logger;
  readonly voice: ServiceVoice;
  /** Of looking at the file. */
  readonly looks: Progress;
}

/**
 * Keeps the networks of a file until the signal aborts. `ready` is called once the first pass is over, with the sockets.
 */
export async function runStandalone(
  options: StandaloneOptions,
  ready: (sockets: { readonly socket: string; readonly controlSocket: string }) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const clock = systemClock;
  const log = createLogger({ level: options.logLevel, name: 'network', journal: options.env['JOURNAL_STREAM'] });
  await using stack = new AsyncDisposableStack();
  const voice = stack.use(new ServiceVoice({ environment: options.env, clock, log, tell: tellServiceManager }));
  const stop = () => {
    log.info('told to stop');
    voice.stopping();
  };
  signal.addEventListener('abort', stop, { once: true });
  const seen = await fingerprint(options.file);
  const first = await readFiled(options.file);
  const folder = stack.use(await openDataFolder(options.stateFolder, '--state-dir'));
  const { networks, availability } = await openCapability(options, folder, log, stack, signal);
  if (!availability.available) throw new LonglineError('unavailable', `${availability.reason}; ${availability.mend}`);
  const servers = stack.use(new StatusServers(networks, clock, log));
  const running = { options, networks, servers, log, voice, looks: new Progress('file', clock) };
  const socket = options.socket ?? folder.file('network.sock');
  const controlSocket = options.controlSocket ?? folder.file('control.sock');
  const local = stack.use(new LocalServer(socket, { networks: networkCalls(networks, clock) }, log));
  await local.open();
  const control = stack.use(new ControlSocket(controlSocket, networks, clock, log));
  await control.open();
  await servers.serve(first.networks);
  // Before it begins, so that what the file wants is adopted and not taken away.
  await applyNetworks(running, first, signal);
  await networks.adopt();
  await applyNetworks(running, first, signal);
  if (!signal.aborted) {
    local.setServing(true);
    voice.ready({ tasks: () => [running.looks, ...networks.progress], status: () => statusOf(networks) });
    await ready({ socket, controlSocket });
    await keep(running, seen, signal);
    local.setServing(false);
  }
  if (options.mode === 'service') return log.info('stopping; the networks stay');
  log.info('stopping; the networks are taken down');
  await networks.removeAll();
}

/**
 * Takes networks down that an earlier process left in a folder, which nobody may be working on: all, or those of these names. Gives the
 * names. Throws `already_exists` if a process works on the folder.
 */
export async function takeDownLeft(
  stateFolder: string,
  names: readonly string[] | undefined,
  env: StandaloneOptions['env'],
): Promise<readonly string[]> {
  const log = createLogger({ level: 'warn', name: 'network' });
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await openDataFolder(stateFolder, '--state-dir'));
  const { signal } = new AbortController();
  // What made them may be gone from the host since: they go all the same.
  const { networks } = await openCapability({ ...DEFAULT_NETWORK_CONFIG, env }, folder, log, stack, signal);
  return await networks.takeDown(names);
}

async function openCapability(
  options: NetworkConfig & Pick<StandaloneOptions, 'env'>,
  folder: DataFolder,
  log: Logger,
  stack: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<{ readonly networks: NetworkCapability; readonly availability: Availability }> {
  const state = stack.use(await StateFile.open(folder.file('state'), { log }));
  const { backend, peerDetails, reconcileIntervalMs, env: environment } = options;
  const config = { backend, peerDetails, reconcileIntervalMs };
  const networks = openNetworks({ folder, config, environment, reports: { measured: () => undefined } });
  stack.use(networks);
  // Nobody to tell: they are in the log.
  const emit = () => undefined;
  const availability = await networks.open({
    log,
    clock: systemClock,
    state: state.namespace('network'),
    signal,
    emit,
  });
  return { networks, availability };
}

async function applyNetworks(
  { networks, log }: Running,
  { networks: filed, warnings }: NetworkFile,
  signal: AbortSignal,
): Promise<void> {
  for (const warning of warnings) log.warn('the file of networks has something to know', { warning });
  const enabled = filed.filter((network) => network.enabled);
  await networks.applyFiled(
    enabled.map(({ spec }) => spec),
    signal,
  );
}

/** Until the signal aborts: reads the file again when it changed, or on SIGHUP. */
async function keep(running: Running, fingerprintAtStart: string, signal: AbortSignal): Promise<void> {
  const { options, looks } = running;
  await using tasks = new TaskGroup(signal);
  let seen = fingerprintAtStart;
  let hangups = 0;
  using _ = options.hangups.handle(() => {
    hangups += 1;
  });
  tasks.spawn(async (stop) => {
    for (let taken = 0; ; ) {
      looks.expect(LOOK_EVERY_MS + RELOAD_LIMIT_MS, 'a look');
      await systemClock.sleep(LOOK_EVERY_MS, stop);
      const now = await fingerprint(options.file);
      if (now === seen && taken === hangups) continue;
      seen = now;
      taken = hangups;
      await running.voice.reload(() => reload(running, stop));
    }
  });
  await tasks.wait();
}

/** Doesn't wait for networks once the signal aborts: the end has a limit of its own. */
async function reload(running: Running, signal: AbortSignal): Promise<void> {
  const { options, log } = running;
  let failure = 'the file of networks is refused; all stays as it was';
  try {
    const file = await readFiled(options.file);
    await applyNetworks(running, file, signal);
    if (signal.aborted) return;
    failure = 'networks are as the file says, but not all health is served; it is tried again at the next change';
    await running.servers.serve(file.networks);
    log.info('the file of networks was read anew', { file: options.file });
  } catch (error) {
    log.error(failure, { err: describeError(error) });
  }
}

/** "2 networks: 1 up, 1 degraded". */
function statusOf({ states }: NetworkCapability): string {
  const counts = [...states].map(([state, count]) => `${count} ${state}`);
  const all = [...states.values()].reduce((sum, count) => sum + count, 0);
  return `${all} network${all === 1 ? '' : 's'}${counts.length === 0 ? '' : `: ${counts.join(', ')}`}`;
}

async function readFiled(path: string): Promise<NetworkFile> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new LonglineError('invalid', `--config: ${path} can't be read: ${error.message}`, { cause: error });
  });
  return readNetworkFile(text);
}

/** Changes whenever the file is written or replaced. */
async function fingerprint(path: string): Promise<string> {
  try {
    const { ctimeMs, ino, mtimeMs, size } = await stat(path);
    return [ino, size, mtimeMs, ctimeMs].join(' ');
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
