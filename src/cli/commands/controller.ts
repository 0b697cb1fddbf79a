// `longline controller`: the one place of the command line that knows the controller.
import { once } from 'node:events';
import type { Command } from 'commander';
import type { ControllerOptions } from '../../controller/config.ts';
import { controllerConfig } from '../../controller/settings.ts';
import type { Resolved } from '../../core/config/setting.ts';
import { Hangups } from '../../core/hangups.ts';
import { tellServiceManager } from '../../platform/process/service-manager.ts';
import { addConfigOptions } from '../config-options.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { ShutdownLimit } from '../shutdown-limit.ts';

/** The controller's settings, for commands that print or check them. */
export { controllerConfig } from '../../controller/settings.ts';

/** To close stores and files once all are drained. */
const CLOSING_MS = 20_000;

const EXAMPLES = `
Examples:
  longline controller --data-dir ./controller --listen 127.0.0.1:0
  export LONGLINE_CONTEXT=./controller/context.json; longline token create

When it serves it prints one line on standard output: {"ready":true,"url":URL,"context":PATH}. Operators point
LONGLINE_CONTEXT or --context at that path. SIGTERM and Ctrl-C drain it; a second one ends it at once.`;

/** Adds `controller`. */
export function registerControllerCommands(program: Command, io: CliIo): void {
  const controller = program
    .command('controller')
    .description('Run a controller. The first start makes its CA, certificates and an admin context file.')
    .addHelpText('after', EXAMPLES);
  const options = addConfigOptions(controller, controllerConfig, io);
  controller.action(async () => {
    using hangups = new Hangups();
    const read = async () => optionsOf((await options.load()).config);
    await serve(io, await read(), read, hangups);
  });
}

function optionsOf(config: Resolved<typeof controllerConfig.table>): ControllerOptions {
  const { advertise, metricsListen, plaintextListen, ...rest } = config;
  return {
    ...rest,
    ...(advertise === undefined ? {} : { advertise }),
    ...(plaintextListen === undefined ? {} : { plaintextListen }),
    ...(metricsListen === undefined ? {} : { metricsListen }),
  };
}

async function serve(
  io: CliIo,
  options: ControllerOptions,
  read: () => Promise<ControllerOptions>,
  hangups: Hangups,
): Promise<void> {
  using interrupt = new InterruptGuard();
  let drainWindowMs = () => options.drainWindowMs ?? 0;
  using _limit = new ShutdownLimit(interrupt.signal, () => drainWindowMs() + CLOSING_MS, 'drain_window');
  const { runController } = await import('../../controller/controller.ts');
  await using controller = await runController(options, {}, io.env, tellServiceManager);
  drainWindowMs = () => controller.drainWindowMs;
  if (interrupt.signal.aborted) return;
  using _hangups = hangups.handle(() => void controller.reload(read));
  await io.stdout.line(toJson({ ready: true, url: controller.url, context: controller.contextPath }));
  if (!interrupt.signal.aborted) await once(interrupt.signal, 'abort');
}
