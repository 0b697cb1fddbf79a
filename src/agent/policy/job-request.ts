// A parsed job as policy sees it, and as it is shown to people: with every default filled in.
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  type JobSpec as JobSpecMessage,
  JobSpecSchema,
  NetworkMode,
  PullPolicy,
  StdinMode,
} from '#gen/longline/v1/job_pb.js';
import type { JobSpec } from '../../capabilities/jobs/spec.ts';
import type { SandboxRequest } from '../../core/policy/policy.ts';

/** The question that a job puts to the policy. */
export function sandboxRequestOf(spec: JobSpec): SandboxRequest {
  return {
    image: spec.image.text,
    network: spec.network.mode === 'named' ? spec.network : { mode: spec.network.mode, name: '' },
    user: spec.user,
    addCapabilities: spec.addCapabilities,
    runtime: spec.runtime,
    writableRoot: spec.writableRoot,
    newPrivileges: spec.allowNewPrivileges,
    mounts: spec.mounts,
    limits: {
      cpus: spec.cpus,
      memoryBytes: spec.memoryBytes,
      pids: spec.pids,
      tmpBytes: spec.tmpBytes,
      timeoutMs: spec.timeoutMs,
      outputBytes: spec.outputBytes,
      stopGraceMs: spec.stopGraceMs,
    },
  };
}

/** The job as it would run. Standard input, metadata and environment are those of `asked`. */
export function effectiveJobSpec(spec: JobSpec, asked: JobSpecMessage): JobSpecMessage {
  return create(JobSpecSchema, {
    argv: [...spec.argv],
    image: spec.image.text,
    env: { ...spec.env },
    workingDir: spec.workingDir,
    stdinMode: STDIN_MODE[spec.input.kind],
    stdinData: asked.stdinData,
    resources: {
      cpus: spec.cpus,
      memoryBytes: BigInt(spec.memoryBytes),
      pids: spec.pids,
      tmpBytes: BigInt(spec.tmpBytes),
    },
    timeout: durationFromMs(spec.timeoutMs),
    networkMode: NETWORK_MODE[spec.network.mode],
    networkName: spec.network.mode === 'named' ? spec.network.name : '',
    mounts: spec.mounts.map((mount) => ({ ...mount })),
    sandbox: {
      user: spec.user,
      addCapabilities: [...spec.addCapabilities],
      writableRoot: spec.writableRoot,
      runtime: spec.runtime,
      allowNewPrivileges: spec.allowNewPrivileges,
    },
    pullPolicy: PULL_POLICY[spec.pullPolicy],
    maxOutputBytes: BigInt(spec.outputBytes),
    stopGrace: durationFromMs(spec.stopGraceMs),
    requiredScopes: [...spec.requiredScopes],
    ...(asked.metadata === undefined ? {} : { metadata: asked.metadata }),
  });
}

const STDIN_MODE = { none: StdinMode.NONE, inline: StdinMode.INLINE, stream: StdinMode.STREAM } as const;
const NETWORK_MODE = {
  none: NetworkMode.NONE,
  bridge: NetworkMode.BRIDGE,
  host: NetworkMode.HOST,
  named: NetworkMode.NAMED,
} as const;
const PULL_POLICY = {
  if_missing: PullPolicy.IF_MISSING,
  always: PullPolicy.ALWAYS,
  never: PullPolicy.NEVER,
} as const;
