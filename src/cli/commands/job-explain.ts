// `longline job explain`: whether a job would run on this host, and which rule forbids it.
import { toJson as messageToJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { JobSpecSchema } from '#gen/longline/v1/job_pb.js';
import type { CliIo } from '../io.ts';
import { addSpecOptions, type SpecOptions, specOf } from '../job/spec-options.ts';
import { type ExplainOptions, registerExplain } from './explain.ts';

/** Adds `job explain`. */
export function registerJobExplain(job: Command, io: CliIo): void {
  const explain = registerExplain<ExplainOptions & SpecOptions>(job, io, 'a job would run', async (options, argv) => {
    const spec = await specOf(options, argv);
    const { keyId, controllerId } = options;
    return async (client) => {
      const answer = await client.call(LocalService.method.explainJob, { spec, keyId, controllerId });
      const { effective } = answer;
      const shown =
        effective === undefined ? null : messageToJson(JobSpecSchema, effective, { useProtoFieldName: true });
      return { ...answer, effective: shown };
    };
  });
  addSpecOptions(explain).addHelpText(
    'after',
    '\nExample:\n  longline job explain --network host --key-id ops -- ip addr',
  );
}
