// The options that say what a program is to be.
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { type Command, InvalidArgumentError } from 'commander';
import type { Artifact } from '#gen/longline/fleet/v1/program_service_pb.js';
import { type ProgramSpec, ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { parseAttach } from '../../core/programs/attach-point.ts';
import { countValue, durationValue, pairValue } from '../option-values.ts';

/** What the options say. */
export interface ProgramSpecOptions {
  readonly artifact: string;
  readonly attach?: readonly string[];
  readonly param?: Readonly<Record<string, string>>;
  readonly ttl?: number;
  readonly renewal?: number;
  readonly maxErrors?: number;
  readonly maxViolations?: number;
  readonly maxCpu?: number;
  readonly maxLatency?: number;
  readonly maxMemory?: number;
  readonly minRuns?: number;
}

const LARGEST = Number.MAX_SAFE_INTEGER;

/** Adds the options. */
export function addProgramSpecOptions(command: Command): Command {
  return command
    .requiredOption(
      '--artifact <file|digest>',
      'artifact.tar.zst, which is uploaded, or the digest of one that is there',
    )
    .option(
      '--attach <place>',
      'where: xdp:eth0, tc:eth0:ingress, cgroup:/sys/fs/cgroup/web, tracepoint:CATEGORY:NAME, …; repeatable',
      attachValue,
    )
    .option('--param <name=value>', 'a parameter; repeatable', pairValue)
    .option('--ttl <duration>', 'how long it stays loaded; 0 for ever', durationValue)
    .option(
      '--renewal <n>',
      'count up for the time to begin anew, or to try again what was given up',
      countValue(0, LARGEST),
    )
    .optionsGroup('Rolled back above (0 for never):')
    .option('--max-errors <n>', 'errors between two checks', countValue(0, LARGEST))
    .option('--max-violations <n>', 'violations between two checks', countValue(0, LARGEST))
    .option('--max-cpu <percent>', 'of one processor', numberValue)
    .option('--max-latency <ms>', 'mean of one call', numberValue)
    .option('--max-memory <KiB>', 'of functions and maps', countValue(0, LARGEST))
    .option(
      '--min-runs <n>',
      'fewest calls between two checks that CPU and latency are judged by',
      countValue(1, LARGEST),
    );
}

/** The spec that they make of an artifact. `name` undefined takes that of the artifact. */
export function programSpecOf(options: ProgramSpecOptions, artifact: Artifact, name: string | undefined): ProgramSpec {
  const { attach = [], param = {}, renewal = 0, ttl } = options;
  return create(ProgramSpecSchema, {
    name: name ?? artifact.metadata?.name ?? '',
    artifact: artifact.digest,
    attach: [...attach],
    parameters: { ...param },
    renewal: BigInt(renewal),
    ...(ttl === undefined ? {} : { ttl: durationFromMs(ttl) }),
    ...thresholdsOf(options),
  });
}

function thresholdsOf(options: ProgramSpecOptions) {
  const { maxCpu, maxErrors, maxLatency, maxMemory, maxViolations, minRuns } = options;
  const thresholds = {
    ...(maxErrors === undefined ? {} : { maxErrors: BigInt(maxErrors) }),
    ...(maxViolations === undefined ? {} : { maxViolations: BigInt(maxViolations) }),
    ...(maxCpu === undefined ? {} : { maxCpuPercent: maxCpu }),
    ...(maxLatency === undefined ? {} : { maxLatencyMs: maxLatency }),
    ...(maxMemory === undefined ? {} : { maxMemoryKb: BigInt(maxMemory) }),
    ...(minRuns === undefined ? {} : { minRuns: BigInt(minRuns) }),
  };
  return Object.keys(thresholds).length === 0 ? {} : { thresholds };
}

function attachValue(text: string, before: readonly string[] | undefined): readonly string[] {
  const read = parseAttach(text);
  if (!read.ok) throw new InvalidArgumentError(read.problem);
  return [...(before ?? []), text];
}

function numberValue(text: string): number {
  if (!/^\d*\.?\d+$/.test(text)) throw new InvalidArgumentError('Give a number from 0.');
  return Number(text);
}
