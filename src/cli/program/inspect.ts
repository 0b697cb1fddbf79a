// `longline program inspect`: shows what an artifact says of itself. Whether to believe it is for `verify` to say.
import { toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import { formatDuration } from '../../core/clock.ts';
import { requestText } from '../../core/programs/attach-point.ts';
import type { ArtifactCounter, ArtifactMetadata, ArtifactParameter } from '../../core/programs/metadata.ts';
import type { CliIo } from '../io.ts';
import { plainText } from '../table.ts';
import { type ArtifactFile, readArtifactFile } from './artifact-file.ts';

/** Adds `inspect`. */
export function registerInspect(group: Command, io: CliIo): void {
  group
    .command('inspect <artifact>')
    .description('Show what an artifact holds and says of itself. Checks everything but who signed it.')
    .action(async (path: string) => {
      const file = await readArtifactFile(path);
      await io.result(artifactFileView(file), () => describe(file, io).join('\n'));
    });
}

/** An artifact as machine output. */
export function artifactFileView({ artifact, message, metadata, size }: ArtifactFile) {
  return {
    digest: artifact.digest,
    name: metadata.name,
    version: metadata.version,
    size,
    unpacked_object_size: artifact.object.length,
    signatures: artifact.signatures.map(({ keyId, algorithm }) => ({ key_id: keyId, algorithm })),
    metadata: toJson(ProgramMetadataSchema, message, { useProtoFieldName: true }),
  };
}

type Row = readonly [label: string, text: string];

function describe({ artifact, metadata, size }: ArtifactFile, io: CliIo): readonly string[] {
  const { signatures, digest, object } = artifact;
  const rows: readonly Row[] = [
    ['digest', digest],
    ['size', `${size} bytes, object ${object.length}`],
    ...(metadata.description === '' ? [] : [['about', metadata.description] as const]),
    ...(signatures.length === 0 ? [['signed by', 'nobody'] as const] : []),
    ...signatures.map(({ keyId, algorithm }): Row => ['signed by', `${keyId} (${algorithm})`]),
    ['kernel', metadata.minimumKernel === undefined ? 'any' : `from ${metadata.minimumKernel} on`],
    ['stays', stays(metadata.ttlMs)],
    ['expires', metadata.expiresAtMs === undefined ? 'never' : new Date(metadata.expiresAtMs).toISOString()],
    ...metadata.functions.map(({ name, type, attach }): Row => {
      const places = attach.map(({ point }) => requestText({ function: undefined, point })).join(', ');
      return ['function', `${name} (${type}) ${places === '' ? 'where the spec says' : `at ${places}`}`];
    }),
    ...metadata.parameters.map((parameter): Row => ['parameter', parameterText(parameter)]),
    ...counterRows(metadata),
    ...metadata.events.map(({ map, type, fields, perSecond }): Row => {
      const names = fields.map((field) => `${field.name}:${field.type}`).join(' ');
      return ['events', `program.${type} from ${map}, ${perSecond} a second: ${names === '' ? 'in hex' : names}`];
    }),
    ...thresholdRows(metadata),
    ...(metadata.freshMaps.length === 0 ? [] : [['fresh maps', metadata.freshMaps.join(', ')] as const]),
  ];
  return [
    io.paint('bold', plainText(`${metadata.name} ${metadata.version}`)),
    ...rows.map(([label, text]) => `  ${label.padEnd(11)} ${plainText(text)}`),
  ];
}

function stays(ttlMs: number | undefined): string {
  if (ttlMs === undefined) return 'as long as the host says';
  return ttlMs === 0 ? 'for ever' : formatDuration(ttlMs);
}

function parameterText(parameter: ArtifactParameter): string {
  const { name, type, target, min, max, choices, defaultText, required, description } = parameter;
  const place =
    target.kind === 'variable'
      ? `variable ${target.variable}`
      : target.kind === 'map'
        ? `${target.map}[${target.key}]`
        : `keys of ${target.map}${target.maxKeys === undefined ? '' : `, at most ${target.maxKeys}`}`;
  const limits = [
    ...(min === undefined ? [] : [`from ${min}`]),
    ...(max === undefined ? [] : [`to ${max}`]),
    ...(choices.length === 0 ? [] : [`one of ${choices.join(', ')}`]),
    ...(required ? ['required'] : []),
    ...(defaultText === undefined ? [] : [`default ${defaultText}`]),
  ];
  const words = limits.length === 0 ? '' : ` ${limits.join(' ')}`;
  return `${name} (${type}${words}) → ${place}${description === '' ? '' : `: ${description}`}`;
}

function counterRows({ counters }: ArtifactMetadata): readonly Row[] {
  const { packets, violations, errors, others } = counters;
  const named = Object.entries({ packets, violations, errors, ...others });
  return named.flatMap(([name, counter]): readonly Row[] =>
    counter === undefined ? [] : [['counter', `${name}: ${counterText(counter)}`]],
  );
}

function counterText({ map, key, offset, size }: ArtifactCounter): string {
  return `${map}[${key}]${offset === 0 ? '' : ` at byte ${offset}`}${size === 4 ? ', 4 bytes' : ''}`;
}

function thresholdRows({ thresholds }: ArtifactMetadata): readonly Row[] {
  const { maxErrors, maxViolations, maxCpuPercent, maxLatencyMs, maxMemoryKb, minRuns } = thresholds;
  const named: readonly (readonly [string, number | undefined])[] = [
    ['errors', maxErrors],
    ['violations', maxViolations],
    ['cpu %', maxCpuPercent],
    ['latency ms', maxLatencyMs],
    ['memory KiB', maxMemoryKb],
  ];
  const limits = named.flatMap(([name, value]): readonly Row[] =>
    value === undefined ? [] : [['rolled back', value === 0 ? `never for ${name}` : `above ${value} ${name}`]],
  );
  return minRuns === undefined ? limits : [...limits, ['judged', `by cpu and latency from ${minRuns} runs on`]];
}
