// `longline session explain`: asks the agent of this host whether a session would be started, and which rule forbids it.
// Starts nothing.
import { toJson as messageToJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { LocalService, type PolicyDecision } from '#gen/longline/local/v1/local_pb.js';
import { SessionSpecSchema } from '#gen/longline/v1/session_pb.js';
import { globalOptions } from '../global-options.ts';
import { type CliIo, EXIT } from '../io.ts';
import { addSessionSpecOptions, type SessionSpecOptions, sessionSpecOf } from '../session/spec-options.ts';
import { plainText } from '../table.ts';
import { openLocal } from './status.ts';

interface ExplainOptions extends SessionSpecOptions {
  readonly keyId: string;
  readonly controllerId: string;
  readonly socket?: string;
  readonly dataDir?: string;
}

/** Adds `session explain`. */
export function registerSessionExplain(session: Command, io: CliIo): void {
  const explain = session
    .command('explain [command...]')
    .description('Ask the agent of this host whether a session would be started here; exits with 4 if not.')
    .passThroughOptions()
    .option('--key-id <id>', 'key that would sign it; unsigned if left out', '')
    .option('--controller-id <id>', 'controller it would come from', '')
    .option('--socket <path>', 'unix socket of the agent (env LONGLINE_LOCAL_SOCKET)')
    .option('--data-dir <path>', 'data folder of the agent, to find its socket (env LONGLINE_DATA_DIR)')
    .action(async (argv: string[], options: ExplainOptions, command: Command) => {
      const spec = await sessionSpecOf(options, argv);
      using client = openLocal(io, options, globalOptions(command, io).timeoutMs);
      const { keyId, controllerId } = options;
      const answer = await client.call(LocalService.method.explainSession, { spec, keyId, controllerId });
      const { effective } = answer;
      const view = {
        allowed: answer.allowed,
        decisions: answer.decisions.map(({ rule, allowed, explanation }) => ({ rule, allowed, explanation })),
        effective:
          effective === undefined ? null : messageToJson(SessionSpecSchema, effective, { useProtoFieldName: true }),
      };
      await io.result(view, () => answer.decisions.map((decision) => lineOf(io, decision)).join('\n'));
      if (!answer.allowed) io.exitCode = EXIT.denied;
    });
  addSessionSpecOptions(explain).addHelpText(
    'after',
    '\nExample:\n  longline session explain --image desktop:1 --network shared --user root',
  );
}

function lineOf(io: CliIo, { rule, allowed, explanation }: PolicyDecision): string {
  const verdict = allowed ? io.paint('green', 'allow') : io.paint('red', 'deny ');
  return `${verdict}  ${plainText(`${rule}: ${explanation}`)}`;
}
