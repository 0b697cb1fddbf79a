// The shape of a job: what no agent could carry out, whatever its policy. All mistakes are told at once, by path. Limits
// of a host and what it allows are the agent's to judge. Pure.
import { type JobSpec, NetworkMode, PullPolicy, StdinMode } from '#gen/longline/v1/job_pb.js';
import type { FieldViolation } from '../../core/errors.ts';
import { bytesOf, checkEnv, IMAGE, Shape, shown } from './shape.ts';

const MAX_COMMAND_BYTES = 128 * 1024;
const MAX_STDIN_BYTES = 1024 * 1024;
const MAX_METADATA_BYTES = 256 * 1024;
const MAX_LIST = 64;
const CAPABILITY = /^[A-Z][A-Z0-9_]{0,63}$/;
const ENGINE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

function checkCommand(shape: Shape, spec: JobSpec): void {
  const both = spec.argv.length > 0 && spec.shell !== '';
  const none = spec.argv.length === 0 && spec.shell === '';
  shape.require(!both, 'argv', 'is given together with shell; exactly one of the two must be');
  shape.require(!none, 'argv', 'is empty and so is shell; exactly one of the two must be given');
  shape.require(spec.argv.length === 0 || spec.argv[0] !== '', 'argv[0]', 'is empty; must name a program');
  const bytes = bytesOf(spec.argv) + Buffer.byteLength(spec.shell);
  shape.require(bytes <= MAX_COMMAND_BYTES, 'argv', `has ${bytes} bytes; at most ${MAX_COMMAND_BYTES} are allowed`);
  const nul = spec.argv.some((argument) => argument.includes('\0')) || spec.shell.includes('\0');
  shape.require(!nul, spec.shell === '' ? 'argv' : 'shell', 'has a NUL character');
  shape.require(spec.image === '' || IMAGE.test(spec.image), 'image', `${shown(spec.image)} is no image reference`);
  const dir = spec.workingDir;
  shape.require(dir === '' || dir.startsWith('/'), 'working_dir', `${shown(dir)} must be an absolute path`);
}

function checkInput(shape: Shape, spec: JobSpec): void {
  shape.require(spec.stdinMode in StdinMode, 'stdin_mode', `${spec.stdinMode} is unknown`);
  const inline = spec.stdinMode === StdinMode.INLINE;
  shape.require(inline || spec.stdinData.length === 0, 'stdin_data', 'is given without STDIN_MODE_INLINE');
  const bytes = spec.stdinData.length;
  shape.require(bytes <= MAX_STDIN_BYTES, 'stdin_data', `has ${bytes} bytes; at most ${MAX_STDIN_BYTES} are allowed`);
}

function checkLimits(shape: Shape, spec: JobSpec): void {
  shape.positive(spec.resources?.cpus, 'resources.cpus');
  shape.positive(spec.resources?.memoryBytes, 'resources.memory_bytes');
  shape.positive(spec.resources?.pids, 'resources.pids');
  shape.positive(spec.resources?.tmpBytes, 'resources.tmp_bytes');
  shape.duration(spec.timeout, 'timeout', 1);
  shape.duration(spec.stopGrace, 'stop_grace', 0);
  shape.require(spec.pullPolicy in PullPolicy, 'pull_policy', `${spec.pullPolicy} is unknown`);
}

function checkSandbox(shape: Shape, spec: JobSpec): void {
  const { networkMode, networkName, mounts, sandbox } = spec;
  shape.require(networkMode in NetworkMode, 'network_mode', `${networkMode} is unknown`);
  const named = networkMode === NetworkMode.NAMED;
  shape.require(named || networkName === '', 'network_name', 'is given without NETWORK_MODE_NAMED');
  const name = !named || ENGINE_NAME.test(networkName);
  shape.require(name, 'network_name', `${shown(networkName)} must name an engine network for NETWORK_MODE_NAMED`);
  shape.require(mounts.length <= MAX_LIST, 'mounts', `has ${mounts.length} entries; at most ${MAX_LIST} are allowed`);
  for (const [index, { source, target }] of mounts.slice(0, MAX_LIST).entries()) {
    const field = `mounts[${index}]`;
    shape.require(
      source.startsWith('/') || ENGINE_NAME.test(source),
      `${field}.source`,
      `${shown(source)} must be an absolute path or a volume name`,
    );
    shape.require(target.startsWith('/'), `${field}.target`, `${shown(target)} must be an absolute path`);
  }
  for (const [index, capability] of (sandbox?.addCapabilities ?? []).entries()) {
    const sound = CAPABILITY.test(capability) && !capability.startsWith('CAP_');
    shape.require(
      sound,
      `sandbox.add_capabilities[${index}]`,
      `${shown(capability)} must be a capability name without CAP_`,
    );
  }
  const runtime = sandbox?.runtime ?? '';
  shape.require(runtime === '' || ENGINE_NAME.test(runtime), 'sandbox.runtime', `${shown(runtime)} is no runtime name`);
}

function checkContext(shape: Shape, spec: JobSpec): void {
  const scopes = spec.requiredScopes;
  shape.require(
    scopes.length <= MAX_LIST,
    'required_scopes',
    `has ${scopes.length} entries; at most ${MAX_LIST} are allowed`,
  );
  shape.require(!scopes.includes(''), 'required_scopes', 'has an empty entry');
  const metadata = spec.metadata;
  if (metadata === undefined) return;
  const structs = JSON.stringify([metadata.candidate ?? {}, metadata.plugin ?? {}], (_, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
  const bytes = bytesOf([metadata.prompt, metadata.snapshot, structs, ...Object.entries(metadata.extra).flat()]);
  shape.require(
    bytes <= MAX_METADATA_BYTES,
    'metadata',
    `has ${bytes} bytes; at most ${MAX_METADATA_BYTES} are allowed`,
  );
}

/** Everything wrong with a spec; `path` is where it lies in the request. */
export function specViolations(spec: JobSpec, path: string): readonly FieldViolation[] {
  const shape = new Shape(path);
  checkCommand(shape, spec);
  checkEnv(shape, spec.env);
  checkInput(shape, spec);
  checkLimits(shape, spec);
  checkSandbox(shape, spec);
  checkContext(shape, spec);
  return shape.found;
}
