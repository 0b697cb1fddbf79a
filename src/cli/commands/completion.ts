// `longline completion`: a script that makes a shell complete commands and options.
import { Argument, type Command } from 'commander';
import { createProgram } from '../command-groups.ts';
import { completionScript, SHELLS } from '../completion-script.ts';
import type { CliIo } from '../io.ts';

/** Adds `completion`. */
export function registerCompletionCommands(program: Command, io: CliIo): void {
  program
    .command('completion')
    .description('Print a completion script for a shell.')
    .addArgument(new Argument('<shell>').choices([...SHELLS]))
    .addHelpText('after', '\nExamples:\n  source <(longline completion bash)\n  longline completion fish | source')
    .action(async (shell: (typeof SHELLS)[number]) => {
      const tree = await createProgram('all', io, { out: () => undefined, err: () => undefined });
      await io.stdout.write(completionScript(tree, shell));
    });
}
