// `longline session tunnel`, `exec`, `attach` and `view`: the ways into a session. What carries bytes is in ../session/.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { type Command, InvalidArgumentError } from 'commander';
import { LonglineError } from '../../core/errors.ts';
import { withFleet } from '../fleet-connection.ts';
import { InterruptGuard } from '../interrupt.ts';
import type { CliIo } from '../io.ts';
import { countValue, pairValue } from '../option-values.ts';
import { DEFAULT_DETACH_KEYS, type DetachKeys, detachKeysValue } from '../session/detach-keys.ts';
import { PortListener } from '../session/port-listener.ts';
import { type ProcessEnd, showProcess } from '../session/process-session.ts';
import { addSigningOptions, type SigningOptions } from '../session/signing.ts';
import { openTunnel } from '../session/tunnel-client.ts';

interface TunnelOptions extends SigningOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly stdio?: boolean;
  readonly wake: boolean;
}

interface ExecOptions extends SigningOptions {
  readonly stdin?: boolean;
  readonly tty?: boolean;
  readonly user: string;
  readonly workdir: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly wake: boolean;
  readonly detachKeys: DetachKeys;
}

interface AttachOptions extends SigningOptions {
  readonly readOnly?: boolean;
  readonly wake: boolean;
  readonly detachKeys: DetachKeys;
}

const portValue = countValue(1, 65_535);
const NO_WAKE = 'refuse rather than wake a session that sleeps';

/** Adds `tunnel`, `exec`, `attach` and `view` to `session`. */
export function registerSessionTunnels(session: Command, io: CliIo): void {
  registerTunnel(session, io);
  registerExec(session, io);
  registerAttach(session, io);
  registerView(session, io);
}

function registerTunnel(session: Command, io: CliIo): void {
  const tunnel = session
    .command('tunnel')
    .argument('<session>', 'session id')
    .argument('<port>', 'TCP port that the session offers', portValue)
    .description('Listen on a local port that leads to a port of a session. Wakes the session when a connection comes.')
    .option('--listen <address>', 'HOST:PORT to listen on; port 0 picks a free one', hostPortValue, {
      host: '127.0.0.1',
      port: 0,
    })
    .option('--stdio', 'carry one connection over standard input and output instead, as a ProxyCommand of ssh does')
    .option('--no-wake', NO_WAKE)
    .addHelpText(
      'after',
      '\nExamples:\n  longline session tunnel desk 5901 --listen 127.0.0.1:5901\n' +
        "  ssh -o ProxyCommand='longline session tunnel desk 22 --stdio' user@desk",
    )
    .action(async (sessionId: string, port: number, options: TunnelOptions, command: Command) => {
      using interrupt = new InterruptGuard();
      const ask = {
        sessionId,
        target: { case: 'port' as const, value: port },
        noWake: !options.wake,
        signing: options,
      };
      await withFleet(io, command, async (fleet) => {
        if (options.stdio) {
          using opened = await openTunnel(fleet, ask, interrupt.signal);
          const display = { input: true, terminal: false, attached: true, detachKeys: new Uint8Array() };
          await showProcess(io, opened.tunnel, display, interrupt);
          return;
        }
        await fleet.bringUp();
        const note = (text: string) => void io.note(text).catch(() => undefined);
        const { host, port: localPort } = options.listen;
        await using listener = await PortListener.open(host, localPort, { fleet, ask, note });
        const { address } = listener;
        await io.result({ listening: address, session: sessionId, port }, () => address);
        if (!io.json) await io.note(`leads to port ${port} of session ${sessionId}; Ctrl-C ends it`);
        if (!interrupt.signal.aborted) await once(interrupt.signal, 'abort');
      });
    });
  addSigningOptions(tunnel);
}

function registerExec(session: Command, io: CliIo): void {
  const exec = session
    .command('exec <session> <command...>')
    .description('Run a command in a session: output passes through, the exit code is the command’s.')
    .passThroughOptions()
    .option('-i, --stdin', 'send standard input')
    .option('-t, --tty', 'give the command a terminal')
    .option('-u, --user <user>', 'run as this user of the container, if policy on the host allows it', '')
    .option('-w, --workdir <path>', 'run in this folder of the container', '')
    .option('-e, --env <name=value>', 'environment variable; repeatable', pairValue)
    .option('--no-wake', NO_WAKE)
    .option('--detach-keys <keys>', `with -it: keys that leave (default "${DEFAULT_DETACH_KEYS}")`, detachKeysValue)
    .addHelpText(
      'after',
      '\nExamples:\n  longline session exec desk -- ls -l /home\n  longline session exec -it desk -- sh\n' +
        '  tar c . | longline session exec -i desk -- tar x -C /tmp\n\n' +
        'The command ends with its tunnel. Without -t, Ctrl-C is sent to it as SIGINT; a second one leaves at once.',
    )
    .action(async (sessionId: string, words: string[], options: ExecOptions, command: Command) => {
      // After the session's name nothing is an option of ours any more, so the parser leaves the separator in.
      const argv = words[0] === '--' ? words.slice(1) : words;
      if (argv === words && words[0]?.startsWith('-')) {
        throw new LonglineError(
          'invalid',
          `${words[0]}: options go before the session: exec ${words[0]} ${sessionId} -- …`,
        );
      }
      refuseJson(io, 'exec');
      using interrupt = new InterruptGuard();
      await withFleet(io, command, async (fleet) => {
        const { user, workdir: workingDir, env = {}, tty = false, stdin: input = false } = options;
        const size = tty ? io.stdout.size : undefined;
        const exec = { argv, env, tty, user, workingDir, ...(size === undefined ? {} : { size }) };
        const ask = {
          sessionId,
          target: { case: 'exec' as const, value: exec },
          noWake: !options.wake,
          signing: options,
        };
        using opened = await openTunnel(fleet, ask, interrupt.signal);
        const display = { input, terminal: tty, attached: false, detachKeys: keysOf(options) };
        await conclude(io, await showProcess(io, opened.tunnel, display, interrupt), `command in session ${sessionId}`);
      });
    });
  addSigningOptions(exec);
}

function registerAttach(session: Command, io: CliIo): void {
  const attach = session
    .command('attach <session>')
    .description('Connect to the main process of a session. Leaving lets it go on.')
    .option('--read-only', 'only show its output')
    .option('--no-wake', NO_WAKE)
    .option('--detach-keys <keys>', `keys that leave a terminal (default "${DEFAULT_DETACH_KEYS}")`, detachKeysValue)
    .addHelpText('after', '\nExample:\n  longline session attach desk')
    .action(async (sessionId: string, options: AttachOptions, command: Command) => {
      refuseJson(io, 'attach');
      using interrupt = new InterruptGuard();
      await withFleet(io, command, async (fleet) => {
        const spec = (await fleet.sessions.getSession({ sessionId })).session?.spec;
        const terminal = spec?.tty === true;
        const input = options.readOnly !== true && spec?.stdin === true;
        const size = terminal ? io.stdout.size : undefined;
        const attach = { readOnly: !input, ...(size === undefined ? {} : { size }) };
        const ask = {
          sessionId,
          target: { case: 'attach' as const, value: attach },
          noWake: !options.wake,
          signing: options,
        };
        using opened = await openTunnel(fleet, ask, interrupt.signal);
        if (!input && options.readOnly !== true) await io.note(`[session ${sessionId} takes no input; Ctrl-C leaves]`);
        const display = { input, terminal, attached: true, detachKeys: keysOf(options) };
        await conclude(io, await showProcess(io, opened.tunnel, display, interrupt), `session ${sessionId}`);
      });
    });
  addSigningOptions(attach);
}

function registerView(session: Command, io: CliIo): void {
  session
    .command('view <session>')
    .description('Print an address that shows the screen of a session in a browser. It is good once, for a minute.')
    .option('--port <port>', "port of the RFB server; the session's own if left out", portValue)
    .option('--open', 'open it with the default browser')
    .addHelpText('after', '\nExample:\n  longline session view desk --open')
    .action(async (sessionId: string, options: { port?: number; open?: boolean }, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        const { viewPath, expireTime, port } = await fleet.sessions.createTunnelTicket({
          sessionId,
          port: options.port ?? 0,
        });
        const url = `${fleet.context.url}${viewPath}`;
        const expires_at = expireTime === undefined ? null : timestampDate(expireTime).toISOString();
        await io.result({ url, session: sessionId, port, expires_at }, () => url);
        if (options.open) await openInBrowser(url);
      });
    });
}

async function conclude(io: CliIo, end: ProcessEnd, what: string): Promise<void> {
  if (end.kind === 'exited') {
    io.exitCode = end.code & 0xff;
    if (end.signal !== '' && io.stderr.isTty) await io.note(`[longline: the ${what} was ended by ${end.signal}]`);
  } else if (end.kind === 'detached') await io.note(`[longline: left the ${what}]`);
  else throw new LonglineError('unavailable', `the ${what} can no longer be seen; how it ended is not known`);
}

function keysOf({ detachKeys }: { readonly detachKeys?: DetachKeys }): DetachKeys {
  return detachKeys ?? detachKeysValue(DEFAULT_DETACH_KEYS);
}

function refuseJson(io: CliIo, name: string): void {
  if (io.json)
    throw new LonglineError('invalid', `--json: ${name} passes bytes through unchanged and prints nothing else`);
}

async function openInBrowser(url: string): Promise<void> {
  const opener = process.platform === 'darwin' ? 'open' : 'xdg-open';
  const child = spawn(opener, [url], { stdio: 'ignore', detached: true });
  await once(child, 'spawn').catch((error: Error) => {
    throw new LonglineError(
      'unsupported',
      `--open: ${opener} can't be started (${error.message}); open the address yourself`,
    );
  });
  child.unref();
}

function hostPortValue(text: string): { host: string; port: number } {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || host === '' || Number(port) > 65_535) {
    throw new InvalidArgumentError('Give HOST:PORT, as 127.0.0.1:5901 or [::1]:0.');
  }
  return { host, port: Number(port) };
}
