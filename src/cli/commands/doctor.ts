// `longline doctor`: what works on this host and on the way to the controller, and what mends what does not.
import type { Command } from 'commander';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { type CheckResult, type CheckStatus, resultsOf } from '../doctor/check.ts';
import { checkController } from '../doctor/controller-checks.ts';
import {
  checkBusybox,
  checkCgroups,
  checkDataFolder,
  checkDisk,
  checkEngine,
  checkNode,
  checkUser,
} from '../doctor/host-checks.ts';
import { globalOptions } from '../global-options.ts';
import { type CliIo, type Color, EXIT, toJson } from '../io.ts';
import { LocalClient, localSocketPath } from '../local-client.ts';
import { healthResults } from '../local-health.ts';
import { defaultContextPath, readContext } from '../operator-context.ts';
import { plainText } from '../table.ts';

interface DoctorOptions {
  readonly dockerHost?: string;
  readonly dataDir?: string;
  readonly socket?: string;
  readonly warmInit: string;
}

const COLORS: Readonly<Record<CheckStatus, Color>> = { ok: 'green', warn: 'yellow', fail: 'red' };
const LOCAL_LIMIT_MS = 3_000;

/** Adds `doctor`. */
export function registerDoctorCommands(program: Command, io: CliIo): void {
  program
    .command('doctor')
    .description('Check this host and the way to the controller; says what mends what does not work.')
    .option('--docker-host <url>', 'engine to check (env DOCKER_HOST)')
    .option('--data-dir <path>', 'data folder of the agent (env LONGLINE_DATA_DIR)')
    .option('--socket <path>', 'unix socket of the agent (env LONGLINE_LOCAL_SOCKET)')
    .option('--warm-init <path>', 'static busybox of the warm pool', '/bin/busybox')
    .addHelpText(
      'after',
      '\nExits with 1 if a check fails; warnings do not count.\n\nExample:\n  longline doctor --json',
    )
    .action(async (options: DoctorOptions, command: Command) => {
      const results = await runChecks(io, options, command);
      if (io.json) await io.stdout.line(toJson(results));
      else for (const result of results) await io.stdout.line(describe(io, result));
      if (results.some((result) => result.status === 'fail')) io.exitCode = EXIT.failed;
    });
}

async function runChecks(io: CliIo, options: DoctorOptions, command: Command): Promise<readonly CheckResult[]> {
  const dataDir = options.dataDir ?? (io.env['LONGLINE_DATA_DIR'] || '/var/lib/longline');
  const dockerHost = options.dockerHost ?? (io.env['DOCKER_HOST'] || 'unix:///var/run/docker.sock');
  const socket = localSocketPath(options.socket ?? (io.env['LONGLINE_LOCAL_SOCKET'] || undefined), dataDir);
  const checks: readonly (() => Promise<readonly CheckResult[]> | readonly CheckResult[])[] = [
    () => [checkNode(process.versions.node), checkUser(process.getuid?.())],
    async () => [await checkEngine(dockerHost)],
    async () => [await checkCgroups()],
    async () => [await checkDataFolder(dataDir), await checkDisk(dataDir)],
    async () => [await checkBusybox(options.warmInit)],
    async () => await checkLocalAgent(socket),
    async () => await checkContext(globalOptions(command, io).contextPath ?? defaultContextPath(io.env)),
  ];
  const results: CheckResult[] = [];
  for (const check of checks) results.push(...(await check()));
  return results;
}

async function checkContext(path: string): Promise<readonly CheckResult[]> {
  try {
    return await checkController(await readContext(path));
  } catch (error) {
    const mend = 'only operator commands need one: start a controller, or name its context file with --context';
    return [resultsOf('controller: context').warn((error as Error).message, mend)];
  }
}

async function checkLocalAgent(path: string): Promise<readonly CheckResult[]> {
  const result = resultsOf('agent');
  using client = new LocalClient(path, LOCAL_LIMIT_MS);
  try {
    const status = await client.call(LocalService.method.getStatus, {});
    const detail = `${status.agentId}, link ${status.linkState}${status.linkReason === '' ? '' : ` (${status.linkReason})`}`;
    const link =
      status.linkState === 'open'
        ? result.ok(detail)
        : result.warn(detail, 'see the log of the agent; it goes on trying');
    return [link, ...(await checkHealth(client))];
  } catch (error) {
    return [result.warn((error as Error).message, 'start it: longline agent --controller URL --token TOKEN')];
  }
}

/** An agent of an earlier version has no such call, and is none the worse for it. */
async function checkHealth(client: LocalClient): Promise<readonly CheckResult[]> {
  try {
    return healthResults(await client.call(LocalService.method.getHealth, {}));
  } catch (error) {
    if (error instanceof LonglineError && error.reason === 'unsupported') return [];
    throw error;
  }
}

function describe(io: CliIo, { name, status, detail, mend }: CheckResult): string {
  const line = `${io.paint(COLORS[status], status.padEnd(4))}  ${name}: ${plainText(detail)}`;
  return mend === '' ? line : `${line}\n      ${plainText(mend)}`;
}
