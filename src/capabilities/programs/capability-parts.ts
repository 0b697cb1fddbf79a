// What the capability is made from, and what it makes of it when it is opened first.
import type { CapabilityHost } from '../../core/capability.ts';
import { describeError } from '../../core/errors.ts';
import { HeldState } from '../../core/held-state.ts';
import { HostEvents } from '../../core/host-events.ts';
import { StateTeller } from '../../core/state-teller.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import { Announcer } from './announcer.ts';
import { ArtifactVerifier } from './artifact-verifier.ts';
import type { ProgramsConfig } from './config.ts';
import { type Held, PROGRAM_FORM } from './desired.ts';
import { EventRelay } from './event-relay.ts';
import { Listing } from './listing.ts';
import { LocalPrograms } from './local-programs.ts';
import { ProgramMeter } from './meter.ts';
import type {
  Announcements,
  ArtifactKeys,
  Artifacts,
  Kernel,
  KernelSupport,
  ProgramReports,
  Registry,
} from './ports.ts';
import { Preparation } from './preparation.ts';
import { Quarantine } from './quarantine.ts';
import { ProgramRecords } from './record.ts';
import { RegistryFollower } from './registry-follower.ts';
import { RollbackHistory } from './rollback.ts';
import { Room } from './room.ts';
import type { ProgramServices } from './services.ts';
import { VerificationCache } from './verification-cache.ts';
import { Watch, type Watchable } from './watch.ts';

/** What the capability is made from. */
export interface ProgramsCapabilityOptions {
  /** Of this agent: it only sees what carries its instance id. */
  readonly kernel: Kernel;
  readonly artifacts: Artifacts;
  readonly keys: ArtifactKeys;
  /** Undefined if there is none to poll. */
  readonly registry: Registry | undefined;
  readonly announcements: Announcements;
  readonly reports: ProgramReports;
  readonly config: ProgramsConfig;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer;
  /** Milliseconds since the host booted, also while it sleeps. */
  readonly bootMs: () => number;
}

/** What the parts need of the capability. */
export interface PartsHooks {
  readonly support: () => KernelSupport;
  readonly programs: () => Iterable<Watchable>;
  readonly makeRoom: ProgramServices['makeRoom'];
  /** The registry asks for something else. */
  readonly asked: () => void;
}

/** One set per capability; dispose to let go of statistics and ring buffers. */
export interface CapabilityParts extends Disposable {
  readonly services: ProgramServices;
  readonly held: HeldState<Held>;
  readonly local: LocalPrograms;
  readonly registry: RegistryFollower | undefined;
  readonly teller: StateTeller;
  readonly watch: Watch;
  /** What goes on as long as programs are looked after; each ends with its signal. */
  readonly tasks: readonly ((signal: AbortSignal) => Promise<void>)[];
}

/** Reads all that is on disk, and touches nothing else. Throws if it is unknown what the controller wants. */
export async function loadParts(
  host: CapabilityHost,
  options: ProgramsCapabilityOptions,
  hooks: PartsHooks,
): Promise<CapabilityParts> {
  const { clock, log, state } = host;
  const { kernel, config, announcements, reports, registry: port, bootMs, tracer = noTracer } = options;
  const damaged = (what: string) => (item: string, error: unknown) => {
    log.error(`a record of ${what} can not be read`, { item, err: describeError(error) });
  };
  const held = new HeldState(state, PROGRAM_FORM);
  await held.load();
  const local = new LocalPrograms(state);
  await local.load(damaged('a program that was asked for on this host'));
  const history = new RollbackHistory(state);
  await history.load(damaged('a rollback'));
  const quarantine = new Quarantine(state);
  await quarantine.load(damaged('what is quarantined'));
  const { pollIntervalMs } = config;
  const registry =
    port === undefined
      ? undefined
      : new RegistryFollower({ registry: port, state, clock, log, pollIntervalMs, changed: hooks.asked });
  await registry?.load();
  const { support } = hooks;
  const meter = new ProgramMeter({ kernel, clock, log, checkIntervalMs: config.checkIntervalMs });
  const emit = (event: Parameters<CapabilityHost['emit']>[0]) => host.emit(event);
  const relay = new EventRelay({ kernel, clock, log, emit, eventsPerSecond: config.eventsPerSecond });
  const watch = new Watch({ meter, relay, announcements, reports, config, clock, log, programs: hooks.programs });
  const verifier = new ArtifactVerifier({
    verifications: new VerificationCache(options.keys),
    ...{ allowUnsigned: config.allowUnsigned, clock, support },
  });
  const services: ProgramServices = {
    ...{ kernel, clock, log, tracer, config, support, quarantine, history, makeRoom: hooks.makeRoom },
    listing: new Listing(kernel, clock),
    preparation: new Preparation({ artifacts: options.artifacts, verifier, support }),
    records: new ProgramRecords(state),
    room: new Room(config.maxPrograms, config.whenFull),
    announcer: new Announcer(new HostEvents('program', emit, clock, log), announcements),
    surveillance: watch,
    moment: () => ({ bootId: support().bootId, bootMs: bootMs(), wallMs: clock.now() }),
  };
  const follow = registry === undefined ? [] : [async (signal: AbortSignal) => await registry.run(signal)];
  const tasks = [
    async (signal: AbortSignal) => await watch.run(signal),
    async (signal: AbortSignal) => await relay.run(signal),
    ...follow,
  ];
  return {
    ...{ services, held, local, registry, teller: new StateTeller(), watch, tasks },
    [Symbol.dispose]: () => {
      relay[Symbol.dispose]();
      meter[Symbol.dispose]();
    },
  };
}
