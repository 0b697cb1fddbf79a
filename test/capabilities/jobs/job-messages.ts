// Messages of jobs as the other side of the capability makes and reads them.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type JobProgress, JobProgressSchema, JobResultSchema, JobSpecSchema } from '#gen/longline/v1/job_pb.js';
import { JobActionSchema } from '#gen/longline/v1/signature_pb.js';

/** A serialised longline.v1.JobAction that runs this spec. */
export function encodeJobAction(spec: MessageInitShape<typeof JobSpecSchema>): Uint8Array {
  const run = create(JobSpecSchema, spec);
  return toBinary(JobActionSchema, create(JobActionSchema, { action: { case: 'run', value: run } }));
}

/** What a progress event of the capability holds. */
export function decodeStep(detail: Uint8Array): JobProgress {
  return fromBinary(JobProgressSchema, detail);
}

/** What the result of the capability holds. */
export function decodeEnding(detail: Uint8Array) {
  return fromBinary(JobResultSchema, detail);
}
