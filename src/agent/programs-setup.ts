// Programs on this host: the capability with the kernel, artifacts, keys and whoever hears of them. What nobody asked for is not even
// loaded, for an idle agent pays for it in memory: clients of registries and of NATS without their addresses, and libbpf before the
// kernel is asked.
import { uptime } from 'node:os';
import { fromBinary } from '@bufbuild/protobuf';
import { ProgramTelemetrySchema } from '#gen/longline/v1/program_pb.js';
import { ProgramsCapability } from '../capabilities/programs/capability.ts';
import type { Announcements, ArtifactOrigin, Kernel, RollbackHandler } from '../capabilities/programs/ports.ts';
import type { ArtifactSource } from '../core/programs/artifact-source.ts';
import type { Tracer } from '../core/tracer.ts';
import type { Link } from '../link/link.ts';
import type { LinkTarget } from '../link/ports.ts';
import { BpfKernel } from '../platform/ebpf/bpf-kernel.ts';
import type { Foundation } from './foundation.ts';
import { ArtifactCache } from './programs/artifact-cache.ts';
import { openHostKeys } from './programs/keys-setup.ts';
import { encodeSpec, registryAccess } from './programs/registry-access.ts';
import { AGENT_VERSION } from './version.ts';

/** What it is made from. */
export interface ProgramsSetup extends Pick<Foundation, 'config' | 'folder' | 'clock' | 'log'> {
  readonly tracer?: Tracer;
  readonly link: () => Link | undefined;
  /** What the link dials with. */
  readonly controller: () => Promise<LinkTarget>;
  /** In the place of the host's. */
  readonly kernel?: Kernel;
}

/** Programs of this host. */
export interface Programs {
  readonly capability: ProgramsCapability;
  /** Takes what others than the controller ask for; to be called once the capability was opened. */
  begin(): void;
}

const NOBODY: Announcements = { measured: () => undefined, changed: () => undefined, heartbeat: () => undefined };

/** All of it but the capability is the stack's to dispose, after the capability. Throws `invalid` for settings that can't be used. */
export async function openPrograms(setup: ProgramsSetup, stack: AsyncDisposableStack): Promise<Programs> {
  const { config, folder, clock, log, link, tracer } = setup;
  const { programs } = config;
  const keysLog = log.child({ part: 'artifact keys' });
  const copyPath = folder.file('artifact-keys.json');
  const keys = stack.use(await openHostKeys({ ...programs, copyPath, clock, log: keysLog }));
  const registry = await openRegistry(setup);
  if (registry !== undefined) stack.use(registry);
  const nats = await openNats(setup);
  if (nats !== undefined) stack.use(nats);
  const capability = new ProgramsCapability({
    kernel: setup.kernel ?? stack.use(hostKernel(setup)),
    artifacts: openCache(setup, registry),
    keys,
    registry,
    announcements: nats ?? NOBODY,
    reports: { measured: (figures) => link()?.programTelemetry([fromBinary(ProgramTelemetrySchema, figures)]) },
    config: programs.limits,
    ...(tracer && { tracer }),
    // Of the clock that goes on while the host sleeps.
    bootMs: () => uptime() * 1000,
  });
  const rollBack: RollbackHandler = async (request) => await capability.rollBack(request);
  return { capability, begin: () => nats?.serveRollbacks(rollBack) };
}

function hostKernel({ config, folder, log }: ProgramsSetup): BpfKernel {
  const { instanceId } = folder;
  return new BpfKernel({ instanceId, mountPoint: config.programs.bpfFs, log: log.child({ part: 'ebpf' }) });
}

function openCache({ config, folder, log, link }: ProgramsSetup, registry: ArtifactSource | undefined): ArtifactCache {
  const controller: ArtifactSource = {
    read: (digest, offset, signal) => link()!.fetchArtifact(digest, offset, signal),
  };
  const sources: Partial<Record<ArtifactOrigin, ArtifactSource>> =
    registry === undefined ? { controller } : { controller, registry };
  const place = config.programs.cacheDir ?? folder.file('artifacts');
  return new ArtifactCache({ folder: place, sources, log: log.child({ part: 'artifacts' }) });
}

async function openRegistry({ config, controller }: ProgramsSetup) {
  const { registry } = config.programs;
  if (registry.url === '') return undefined;
  const { HttpRegistry } = await import('../platform/registry/http-registry.ts');
  const access = () => registryAccess(registry, controller);
  return new HttpRegistry({ dialect: registry.dialect, hostId: config.agentId, access, encode: encodeSpec });
}

async function openNats({ config, clock, log }: ProgramsSetup) {
  const { urls, telemetrySubject, ...credentials } = config.programs.nats;
  if (urls.length === 0) return undefined;
  const { NatsAnnouncer } = await import('../platform/nats/announcer.ts');
  const nats = new NatsAnnouncer({
    urls,
    credentials,
    telemetrySubject,
    hostId: config.agentId,
    agentVersion: AGENT_VERSION,
    clock,
    log: log.child({ part: 'nats' }),
  });
  nats.start();
  return nats;
}
