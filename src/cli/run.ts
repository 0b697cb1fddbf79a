// Runs one command line against a CliIo: picks the commands to load, applies the global options, and turns whatever is
// thrown into a message and an exit code. Never throws and never ends the process.
import { CommanderError } from 'commander';
import { LonglineError } from '../core/errors.ts';
import { createProgram } from './command-groups.ts';
import { EXIT } from './exit-code.ts';
import { globalOptions } from './global-options.ts';
import type { CliIo } from './io.ts';

/** A text of commander's, kept until it can be written with backpressure. */
interface HelpText {
  readonly on: 'stdout' | 'stderr';
  readonly text: string;
}

/** Runs the command line; afterwards `io.exitCode` is set and all output was handed to the system. */
export async function run(argv: readonly string[], io: CliIo): Promise<void> {
  const end = argv.indexOf('--');
  const words = end < 0 ? argv : argv.slice(0, end);
  // A first guess, for errors of the command line itself; the parser's word replaces it before an action runs.
  io.configure({ json: words.includes('--json'), color: !words.includes('--no-color') });
  const texts: HelpText[] = [];
  const sink = {
    out: (text: string) => void texts.push({ on: 'stdout', text }),
    err: (text: string) => void texts.push({ on: 'stderr', text }),
  };
  try {
    const program = await createProgram(words, io, sink);
    program.hook('preAction', (_program, action) => io.configure(globalOptions(action, io)));
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    await tell(texts, error, io).catch(() => {
      io.exitCode = EXIT.failed;
    });
  }
  if (io.exitCode === EXIT.ok && io.stdout.closed.aborted) io.exitCode = EXIT.outputClosed;
  await flush(io);
}

/** Output that could not be written is a failure of the command, told on the stream that is left. */
async function flush(io: CliIo): Promise<void> {
  try {
    await io.stdout.flush();
  } catch (error) {
    await io.fail(error).catch(() => {
      io.exitCode = EXIT.failed;
    });
  }
  await io.stderr.flush().catch(() => {
    io.exitCode = EXIT.failed;
  });
}

async function tell(texts: readonly HelpText[], error: unknown, io: CliIo): Promise<void> {
  for (const { on, text } of texts) await io[on].write(text);
  await report(error, io);
}

async function report(error: unknown, io: CliIo): Promise<void> {
  if (!(error instanceof CommanderError)) return await io.fail(error);
  if (error.exitCode === 0) return;
  io.exitCode = EXIT.usage;
  // The help that is shown when a command's subcommand is missing has said it all.
  if (error.code === 'commander.help') return;
  const message = error.message.replace(/^error: /, '').replace(/\n\(Did you mean/, ' (did you mean');
  await io.fail(new LonglineError('invalid', message));
  if (!io.json) await io.note('Try `longline --help`, or --help after a command.');
}
