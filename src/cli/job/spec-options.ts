// The options that describe a job, and the JobSpec and target they make. No I/O beyond the files that options name.
import { readFile } from 'node:fs/promises';
import { create, fromJson, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { type Command, Option } from 'commander';
import {
  type JobMetadata,
  JobMetadataSchema,
  type JobSpec,
  JobSpecSchema,
  type JobTarget,
  JobTargetSchema,
  NetworkMode,
  PullPolicy,
  StdinMode,
} from '#gen/longline/v1/job_pb.js';
import { LonglineError } from '../../core/errors.ts';
import {
  countValue,
  durationValue,
  type MountValue,
  mountValue,
  pairValue,
  parseEnvFile,
  positiveValue,
  repeated,
  type SelectorValue,
  selectorValue,
  sizeValue,
  wordValue,
} from '../option-values.ts';

/** What the options say. */
export interface SpecOptions {
  readonly agent?: string;
  readonly any?: SelectorValue;
  readonly all?: SelectorValue;
  readonly image?: string;
  readonly shell?: string;
  readonly env?: Record<string, string>;
  readonly envFile?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly cpus?: number;
  readonly memory?: number;
  readonly pids?: number;
  readonly tmp?: number;
  readonly timeout?: number;
  readonly stopGrace?: number;
  readonly network?: string;
  readonly mount?: readonly MountValue[];
  readonly capAdd?: readonly string[];
  readonly runtime?: string;
  readonly writableRoot?: boolean;
  readonly allowNewPrivileges?: boolean;
  readonly stdin?: boolean;
  readonly stdinFile?: string;
  readonly pull?: PullPolicy;
  readonly maxOutput?: number;
  readonly scope?: readonly string[];
  readonly meta?: Record<string, string>;
  readonly metaFile?: string;
  readonly prompt?: string;
  readonly snapshot?: string;
}

const PULL = { missing: PullPolicy.IF_MISSING, always: PullPolicy.ALWAYS, never: PullPolicy.NEVER };
const NETWORKS: Readonly<Record<string, NetworkMode>> = {
  none: NetworkMode.NONE,
  bridge: NetworkMode.BRIDGE,
  host: NetworkMode.HOST,
};
const LARGEST_INLINE_INPUT = 1024 * 1024;

/** Adds the options that say where a job runs and what it is. */
export function addSpecOptions(command: Command): Command {
  command
    .optionsGroup('Where it runs:')
    .option('--agent <id>', 'this agent')
    .option('--any <selector>', 'the least loaded agent that matches, like "zone=eu,gpu"; "*" for every', selectorValue)
    .option('--all <selector>', 'every agent that matches', selectorValue)
    .optionsGroup('What it runs:')
    .option('--image <image>', "image; the agent's default if left out")
    .option('--shell <line>', "a line for the image's /bin/sh, instead of a command")
    .option('-e, --env <name=value>', 'environment variable; repeatable', pairValue)
    .option('--env-file <path>', 'file of NAME=VALUE lines; --env wins; repeatable', repeated)
    .option('-w, --workdir <path>', 'working folder in the container')
    .option('--pull <when>', 'fetch the image: missing (default), always, never', wordValue(PULL))
    .option('-i, --stdin', 'stream standard input to the job; off unless given')
    .option('--stdin-file <path>', 'file as standard input, at most 1MiB');
  command
    .optionsGroup('Limits:')
    .option('--timeout <duration>', 'longest run time', durationValue)
    .option('--cpus <n>', 'processor cores, like 0.5', positiveValue(1024))
    .option('--memory <size>', 'memory, swap included, like 256MiB', sizeValue)
    .option('--pids <n>', 'processes and threads', countValue(1, 4_194_304))
    .option('--tmp <size>', 'size of /tmp', sizeValue)
    .option('--max-output <size>', 'output kept of each stream', sizeValue)
    .option('--stop-grace <duration>', 'time between TERM and KILL', durationValue)
    .optionsGroup("Sandbox (the agent's policy must allow what loosens it):")
    .option('--network <mode>', 'none (default), bridge, host or the name of an engine network')
    .option('--mount <source:target[:rw]>', 'mount a host path or volume, read-only unless :rw; repeatable', mountValue)
    .option('-u, --user <user>', 'user or uid:gid in the container')
    .option('--cap-add <name>', 'Linux capability without CAP_; repeatable', repeated)
    .option('--runtime <name>', 'engine runtime, such as runsc')
    .option('--writable-root', 'writable root file system')
    .option('--allow-new-privileges', 'let setuid files raise privileges')
    .optionsGroup('Context:')
    .option('--scope <scope>', 'scope that the signing key must hold; repeatable', repeated)
    .option('--meta <key=value>', 'fact that travels with the job; repeatable', pairValue)
    .addOption(new Option('--meta-file <path>', 'JSON with prompt, candidate, plugin, snapshot, extra'))
    .option('--prompt <text>', 'what was asked for in natural language')
    .option('--snapshot <reference>', 'snapshot taken before');
  return command;
}

/** Where the job runs; exactly one of --agent, --any and --all. */
export function targetOf(options: SpecOptions): JobTarget {
  const given = [options.agent, options.any, options.all].filter((one) => one !== undefined).length;
  if (given !== 1) {
    const what = given === 0 ? 'none was given' : `${given} were given`;
    throw new LonglineError(
      'invalid',
      `where should it run? Give one of --agent ID, --any SELECTOR, --all SELECTOR; ${what}`,
    );
  }
  if (options.agent !== undefined)
    return create(JobTargetSchema, { target: { case: 'agentId', value: options.agent } });
  return create(JobTargetSchema, {
    target: options.any === undefined ? { case: 'allOf', value: options.all! } : { case: 'anyOf', value: options.any },
  });
}

/** The job itself. `argv` is what stands after the options. Throws `invalid` for options that don't go together. */
export async function specOf(options: SpecOptions, argv: readonly string[]): Promise<JobSpec> {
  if (argv.length > 0 && options.shell !== undefined) {
    throw new LonglineError('invalid', `--shell and a command (${argv[0]}) were given; exactly one of them is needed`);
  }
  if (argv.length === 0 && options.shell === undefined) {
    throw new LonglineError('invalid', 'nothing to run: give a command after --, or a line with --shell');
  }
  const init: MessageInitShape<typeof JobSpecSchema> = {
    argv: [...argv],
    shell: options.shell ?? '',
    image: options.image ?? '',
    env: await envOf(options),
    workingDir: options.workdir ?? '',
    ...(await inputOf(options)),
    resources: {
      ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
      ...(options.memory === undefined ? {} : { memoryBytes: BigInt(options.memory) }),
      ...(options.pids === undefined ? {} : { pids: options.pids }),
      ...(options.tmp === undefined ? {} : { tmpBytes: BigInt(options.tmp) }),
    },
    ...(options.timeout === undefined ? {} : { timeout: durationFromMs(options.timeout) }),
    ...networkOf(options.network),
    mounts: [...(options.mount ?? [])],
    sandbox: {
      user: options.user ?? '',
      addCapabilities: (options.capAdd ?? []).map((name) => name.toUpperCase().replace(/^CAP_/, '')),
      writableRoot: options.writableRoot ?? false,
      runtime: options.runtime ?? '',
      allowNewPrivileges: options.allowNewPrivileges ?? false,
    },
    pullPolicy: options.pull ?? PullPolicy.UNSPECIFIED,
    ...(options.maxOutput === undefined ? {} : { maxOutputBytes: BigInt(options.maxOutput) }),
    ...(options.stopGrace === undefined ? {} : { stopGrace: durationFromMs(options.stopGrace) }),
    requiredScopes: [...(options.scope ?? [])],
    ...(await metadataOf(options)),
  };
  return create(JobSpecSchema, init);
}

function networkOf(network: string | undefined): { networkMode?: NetworkMode; networkName?: string } {
  if (network === undefined) return {};
  const mode = Object.hasOwn(NETWORKS, network) ? NETWORKS[network] : undefined;
  return mode === undefined ? { networkMode: NetworkMode.NAMED, networkName: network } : { networkMode: mode };
}

async function envOf(options: SpecOptions): Promise<Record<string, string>> {
  const env: Record<string, string> = {};
  for (const path of options.envFile ?? []) {
    Object.assign(env, parseEnvFile((await readOptionFile('--env-file', path)).toString('utf8'), path));
  }
  return Object.assign(env, options.env);
}

async function inputOf(options: SpecOptions): Promise<{ stdinMode: StdinMode; stdinData?: Uint8Array }> {
  if (options.stdinFile === undefined) return { stdinMode: options.stdin ? StdinMode.STREAM : StdinMode.NONE };
  if (options.stdin) throw new LonglineError('invalid', '--stdin and --stdin-file were given; one of them is enough');
  const data = await readOptionFile('--stdin-file', options.stdinFile);
  if (data.length > LARGEST_INLINE_INPUT) {
    const message = `--stdin-file: ${options.stdinFile} has ${data.length} bytes, at most ${LARGEST_INLINE_INPUT} go inline; use --stdin < FILE`;
    throw new LonglineError('invalid', message);
  }
  return { stdinMode: StdinMode.INLINE, stdinData: data };
}

async function metadataOf(options: SpecOptions): Promise<{ metadata?: JobMetadata }> {
  const { meta, metaFile, prompt, snapshot } = options;
  if (meta === undefined && metaFile === undefined && prompt === undefined && snapshot === undefined) return {};
  const metadata = metaFile === undefined ? create(JobMetadataSchema) : await readMetadata(metaFile);
  if (prompt !== undefined) metadata.prompt = prompt;
  if (snapshot !== undefined) metadata.snapshot = snapshot;
  Object.assign(metadata.extra, meta);
  return { metadata };
}

async function readMetadata(path: string): Promise<JobMetadata> {
  const text = (await readOptionFile('--meta-file', path)).toString('utf8');
  try {
    return fromJson(JobMetadataSchema, JSON.parse(text));
  } catch (error) {
    const message = `--meta-file: ${path} is not JSON with prompt, candidate, plugin, snapshot, extra: ${(error as Error).message}`;
    throw new LonglineError('invalid', message, { cause: error });
  }
}

/** Reads a file that an option names. Throws `invalid` with option and path. */
export async function readOptionFile(option: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new LonglineError('invalid', `${option}: ${path} can't be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
