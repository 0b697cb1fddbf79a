// `longline session explain`: whether a session would be started on this host, and which rule forbids it.
import { toJson as messageToJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { SessionSpecSchema } from '#gen/longline/v1/session_pb.js';
import type { CliIo } from '../io.ts';
import { addSessionSpecOptions, type SessionSpecOptions, sessionSpecOf } from '../session/spec-options.ts';
import { type ExplainOptions, registerExplain } from './explain.ts';

/** Adds `session explain`. */
export function registerSessionExplain(session: Command, io: CliIo): void {
  const what = 'a session would be started';
  const explain = registerExplain<ExplainOptions & SessionSpecOptions>(session, io, what, async (options, argv) => {
    const spec = await sessionSpecOf(options, argv);
    const { keyId, controllerId } = options;
    return async (client) => {
      const answer = await client.call(LocalService.method.explainSession, { spec, keyId, controllerId });
      const { effective } = answer;
      const shown =
        effective === undefined ? null : messageToJson(SessionSpecSchema, effective, { useProtoFieldName: true });
      return { ...answer, effective: shown };
    };
  });
  addSessionSpecOptions(explain).addHelpText(
    'after',
    '\nExample:\n  longline session explain --image desktop:1 --network shared --user root',
  );
}
