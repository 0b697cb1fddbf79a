// `longline completion`: a script that makes a shell complete commands and options.
import { Argument, type Command } from 'commander';
import { completionScript, SHELLS } from '../completion-script.ts';
import type { CliIo } from '../io.ts';

/** Adds `completion`. `wholeTree` gives the program with every command in it. */
export function registerCompletionCommands(program: Command, io: CliIo, wholeTree: () => Promise<Command>): void {
  program
    .command('completion')
    .description('Print a completion script for a shell.')
    .addArgument(new Argument('<shell>').choices([...SHELLS]))
    .addHelpText('after', '\nExamples:\n  source <(longline completion bash)\n  longline completion fish | source')
    .action(async (shell: (typeof SHELLS)[number]) => {
      await io.stdout.write(completionScript(await wholeTree(), shell));
    });
}
