// `longline job explain`: asks the agent of this host whether a job would run, and which rule forbids it. Runs nothing.
import { toJson as messageToJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { LocalService, type PolicyDecision } from '#gen/longline/local/v1/local_pb.js';
import { JobSpecSchema } from '#gen/longline/v1/job_pb.js';
import { globalOptions } from '../global-options.ts';
import { type CliIo, EXIT } from '../io.ts';
import { addSpecOptions, type SpecOptions, specOf } from '../job/spec-options.ts';
import { plainText } from '../table.ts';
import { openLocal } from './status.ts';

interface ExplainOptions extends SpecOptions {
  readonly keyId?: string;
  readonly controllerId?: string;
  readonly socket?: string;
  readonly dataDir?: string;
}

/** Adds `job explain`. */
export function registerJobExplain(job: Command, io: CliIo): void {
  const explain = job
    .command('explain [command...]')
    .description('Ask the agent of this host whether a job would run here; exits with 4 if not.')
    .passThroughOptions()
    .option('--key-id <id>', 'key that would sign it; unsigned if left out', '')
    .option('--controller-id <id>', 'controller it would come from', '')
    .option('--socket <path>', 'unix socket of the agent (env LONGLINE_LOCAL_SOCKET)')
    .option('--data-dir <path>', 'data folder of the agent, to find its socket (env LONGLINE_DATA_DIR)')
    .action(async (argv: string[], options: ExplainOptions, command: Command) => {
      const spec = await specOf(options, argv);
      using client = openLocal(io, options, globalOptions(command, io).timeoutMs);
      const { keyId = '', controllerId = '' } = options;
      const answer = await client.call(LocalService.method.explainJob, { spec, keyId, controllerId });
      const view = {
        allowed: answer.allowed,
        decisions: answer.decisions.map(({ rule, allowed, explanation }) => ({ rule, allowed, explanation })),
        effective:
          answer.effective === undefined
            ? null
            : messageToJson(JobSpecSchema, answer.effective, { useProtoFieldName: true }),
      };
      await io.result(view, () => answer.decisions.map((decision) => lineOf(io, decision)).join('\n'));
      if (!answer.allowed) io.exitCode = EXIT.denied;
    });
  addSpecOptions(explain).addHelpText(
    'after',
    '\nExample:\n  longline job explain --network host --key-id ops -- ip addr',
  );
}

function lineOf(io: CliIo, { rule, allowed, explanation }: PolicyDecision): string {
  const verdict = allowed ? io.paint('green', 'allow') : io.paint('red', 'deny ');
  return `${verdict}  ${plainText(`${rule}: ${explanation}`)}`;
}
