// What the audit log says of a job. Values that may be secret (environment, standard input) appear as fingerprints, the
// command line as a hash that can be compared with the controller's copy, free text cut to a bound.
import { hash } from 'node:crypto';
import { type JobSpec, NetworkMode } from '#gen/longline/v1/job_pb.js';

// Together these keep any job's summary below what the audit log takes, so that no job can stuff itself out of it.
const LONGEST_TEXT = 2048;
const LONGEST_STRUCT = 2048;
const MOST_ENTRIES = 32;

/** Bounded summary of a job as it was asked for. `fingerprint` stands for a value that must not be stored. */
export function jobSummary(
  spec: JobSpec,
  fingerprint: (value: Uint8Array | string) => string,
): Readonly<Record<string, unknown>> {
  const { metadata, sandbox } = spec;
  return dropEmpty({
    image: cut(spec.image, 512),
    program: cut(spec.argv[0] ?? '', 1024),
    command_sha256: commandHash(spec),
    env: Object.fromEntries(
      Object.entries(spec.env)
        .slice(0, MOST_ENTRIES)
        .map(([name, value]) => [cut(name, 128), fingerprint(value).slice(0, 44)]),
    ),
    stdin: spec.stdinData.length === 0 ? '' : fingerprint(spec.stdinData),
    network: spec.networkMode > NetworkMode.NONE ? NetworkMode[spec.networkMode] : '',
    network_name: cut(spec.networkName, 256),
    mounts: spec.mounts
      .slice(0, 16)
      .map(({ source, target, writable }) => `${cut(source, 256)}:${cut(target, 256)}:${writable ? 'rw' : 'ro'}`),
    user: cut(sandbox?.user ?? '', 256),
    capabilities: (sandbox?.addCapabilities ?? []).slice(0, MOST_ENTRIES).map((name) => cut(name, 32)),
    runtime: cut(sandbox?.runtime ?? '', 256),
    writable_root: sandbox?.writableRoot ?? false,
    new_privileges: sandbox?.allowNewPrivileges ?? false,
    required_scopes: spec.requiredScopes.slice(0, MOST_ENTRIES).map((scope) => cut(scope, 64)),
    prompt: cut(metadata?.prompt ?? ''),
    snapshot: cut(metadata?.snapshot ?? '', 256),
    candidate: metadata?.candidate === undefined ? undefined : boundedJson(metadata.candidate),
    plugin: metadata?.plugin === undefined ? undefined : boundedJson(metadata.plugin),
    extra: boundedJson(metadata?.extra ?? {}),
  });
}

/** SHA-256 of the words of the command, each followed by NUL; a shell line counts as "/bin/sh", "-c" and itself. */
function commandHash(spec: JobSpec): string {
  const words = spec.shell === '' ? spec.argv : ['/bin/sh', '-c', spec.shell];
  return hash('sha256', words.map((word) => `${word}\0`).join(''));
}

function boundedJson(value: unknown): unknown {
  const text = JSON.stringify(value);
  return text.length <= LONGEST_STRUCT ? value : { sha256: hash('sha256', text) };
}

function cut(text: string, longest = LONGEST_TEXT): string {
  const plain = text.replaceAll(/\p{Cc}/gu, '\ufffd');
  return plain.length <= longest ? plain : `${plain.slice(0, longest)}…`.toWellFormed();
}

function dropEmpty(fields: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => {
      if (value === undefined || value === '' || value === false) return false;
      return typeof value !== 'object' || value === null || Object.keys(value).length > 0;
    }),
  );
}
