// What tests of the programs capability share: capabilities over a kernel and a disk in memory, one after the other as processes would
// be, and artifacts.
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { ProgramsCapability } from '../../../src/capabilities/programs/capability.ts';
import { DEFAULT_PROGRAMS_CONFIG, type ProgramsConfig } from '../../../src/capabilities/programs/config.ts';
import type {
  AnnouncedChange,
  AnnouncedFigures,
  Kernel,
  Registry,
  RegistryAnswer,
} from '../../../src/capabilities/programs/ports.ts';
import type { ProgramView } from '../../../src/capabilities/programs/status.ts';
import { encodeDesiredState, type ProgramSpecInput, specMessage } from '../../../src/capabilities/programs/wire.ts';
import type { Availability, HostEvent, StateStore } from '../../../src/core/capability.ts';
import type { StateObservation } from '../../../src/core/desired-state.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { artifactDigest, packArtifact } from '../../../src/core/programs/artifact.ts';
import type { ProgramType } from '../../../src/core/programs/program-type.ts';
import { FakeBpfHost, fakeObject } from '../../fixtures/fake-bpf-host.ts';
import { FakeKernel } from '../../fixtures/fake-kernel-programs.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';
import { RecordedLog } from '../../link/scratch.ts';
import { MemoryState } from '../jobs/jobs-fixture.ts';

/** Thrown by all that a killed process still tries. */
export class Killed extends Error {}

/** What an artifact is made from. */
export interface ArtifactDraft {
  readonly version?: string;
  readonly functions?: readonly {
    readonly name: string;
    readonly type: ProgramType;
    readonly attach?: readonly string[];
  }[];
  readonly maps?: readonly string[];
  readonly variables?: readonly string[];
  readonly verifierLog?: string;
  /** More of the metadata, in ProtoJSON. */
  readonly more?: Readonly<Record<string, unknown>>;
}

const COUNT_PACKETS = { name: 'count_packets', type: 'xdp', attach: ['xdp:eth0'] } as const;

/** Bytes of an artifact around an object, that nobody signed. */
export async function packed(
  object: Uint8Array,
  { version = '1.0.0', functions = [COUNT_PACKETS], more }: Pick<ArtifactDraft, 'version' | 'functions' | 'more'>,
): Promise<Uint8Array> {
  const metadata = {
    name: 'counter',
    version,
    objectSha256: hash('sha256', object),
    objectSize: String(object.length),
    functions: functions.map(({ name, type, attach = [] }) => ({
      name,
      type: `PROGRAM_TYPE_${type.toUpperCase()}`,
      attach,
    })),
    ...more,
  };
  return await packArtifact({ metadataBytes: Buffer.from(JSON.stringify(metadata)), object, signatures: [] });
}

const EFFECTS: ReadonlySet<string> = new Set(['load', 'attach', 'replace', 'detach', 'unload']);

/** Capabilities over one host and one disk. */
export class ProgramsWorld implements AsyncDisposable {
  readonly host = new FakeBpfHost();
  readonly state = new MemoryState();
  readonly clock = new ManualClock();
  readonly log = new RecordedLog();
  readonly artifacts = new Map<string, Uint8Array>();
  readonly kept: ReadonlySet<string>[] = [];
  readonly events: HostEvent[] = [];
  readonly observations: StateObservation[] = [];
  readonly telemetry: Uint8Array[] = [];
  readonly changes: AnnouncedChange[] = [];
  readonly figures: AnnouncedFigures[] = [];
  heartbeats = 0;
  /** Points at which the process may be killed, until it is; two an effect. */
  killAfter = Number.POSITIVE_INFINITY;
  /** Looks at the world at each such point. */
  onPoint: (() => void) | undefined;
  /** What the first look found wrong. */
  seen: unknown;
  /** What the registry answers next; undefined for no registry. */
  registryAnswer: RegistryAnswer | Error | undefined;
  kernel = new FakeKernel(this.host);
  /** Why an artifact can't be had, by digest. */
  readonly unfetchable = new Map<string, LonglineError>();
  config: ProgramsConfig;
  readonly #opened: ProgramsCapability[] = [];

  constructor(config: Partial<ProgramsConfig> = {}) {
    this.config = { ...DEFAULT_PROGRAMS_CONFIG, allowUnsigned: true, ...config };
  }

  /** A capability that goes on where the last one was. */
  async start(): Promise<ProgramsCapability> {
    const { availability, capability } = await this.open();
    if (availability.available) await capability.adopt();
    return capability;
  }

  /** One that has not begun. */
  async open(): Promise<{ readonly availability: Availability; readonly capability: ProgramsCapability }> {
    this.kernel = new FakeKernel(this.host);
    const capability = new ProgramsCapability({
      kernel: this.#killableKernel(this.kernel),
      artifacts: {
        get: async (digest) => {
          const error = this.unfetchable.get(digest);
          if (error !== undefined) throw error;
          const bytes = this.artifacts.get(digest);
          if (bytes === undefined) throw new LonglineError('not_found', `there is no artifact ${digest}`);
          return bytes;
        },
        keepOnly: async (digests) => void this.kept.push(digests),
      },
      keys: { keys: async () => [], version: '1' },
      registry: this.registryAnswer === undefined ? undefined : this.#registry(),
      announcements: {
        measured: (figures) => this.figures.push(...figures),
        changed: (change) => this.changes.push(change),
        heartbeat: () => {
          this.heartbeats += 1;
        },
      },
      reports: { measured: (figures) => this.telemetry.push(figures) },
      config: this.config,
      bootMs: () => this.clock.monotonic(),
    });
    this.#opened.push(capability);
    capability.observeState((observation) => this.observations.push(observation));
    const availability = await capability.open({
      log: this.log,
      clock: this.clock,
      state: this.#killableState(),
      signal: new AbortController().signal,
      emit: (event) => this.events.push(event),
    });
    return { availability, capability };
  }

  /** Ends all capabilities; their programs stay. */
  async letGo(): Promise<void> {
    for (const capability of this.#opened.splice(0)) await capability[Symbol.asyncDispose]();
    this.killAfter = Number.POSITIVE_INFINITY;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.letGo();
  }

  /** Makes an artifact, and gives its digest. */
  async artifact(draft: ArtifactDraft = {}): Promise<string> {
    const { version = '1.0.0', maps = ['counters'], variables = ['limit'], verifierLog } = draft;
    const functions = draft.functions ?? [COUNT_PACKETS];
    const object = fakeObject({
      functions: functions.map(({ name, type }) => ({ name, type })),
      maps,
      variables,
      mark: version,
      ...(verifierLog !== undefined && { verifierLog }),
    });
    const limit = { name: 'limit', type: 'PROGRAM_PARAMETER_TYPE_UINT', variable: 'limit' };
    const bytes = await packed(object, { ...draft, version, functions, more: { parameters: [limit], ...draft.more } });
    const digest = artifactDigest(bytes);
    this.artifacts.set(digest, bytes);
    return digest;
  }

  /** A pause of the process that lets everything that is under way come to where it waits for time to pass. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Lets time pass in steps, each seen by whoever waits for it. */
  async pass(ms: number, steps = 1): Promise<void> {
    for (let step = 0; step < steps; step++) {
      this.clock.advance(ms / steps);
      await this.settle();
    }
  }

  /** A point at which the process may be killed. */
  point(): void {
    try {
      if (!this.isKilled) this.onPoint?.();
    } catch (error) {
      // Thrown here it would be taken for a fault of the kernel.
      this.seen ??= error;
    }
    this.killAfter -= 1;
    if (this.killAfter < 0) throw new Killed('killed');
  }

  get isKilled(): boolean {
    return this.killAfter < 0;
  }

  #registry(): Registry {
    return {
      poll: async () => {
        const answer = this.registryAnswer;
        if (answer instanceof Error) throw answer;
        return answer ?? { kind: 'unchanged' };
      },
    };
  }

  #killableKernel(kernel: FakeKernel): Kernel {
    return new Proxy(kernel, {
      get: (target, name) => {
        const member = Reflect.get(target, name, target) as unknown;
        if (typeof member !== 'function') return member;
        const call = member.bind(target) as (...parameters: unknown[]) => unknown;
        if (!EFFECTS.has(String(name))) {
          return (...parameters: unknown[]) => {
            if (this.isKilled) throw new Killed('killed');
            return call(...parameters);
          };
        }
        return async (...parameters: unknown[]) => {
          this.point();
          const result = await call(...parameters);
          this.point();
          return result;
        };
      },
    });
  }

  /** A disk that takes nothing more once the process is dead. */
  #killableState(): StateStore {
    const { state } = this;
    const dead = () => {
      if (this.isKilled) throw new Killed('killed');
    };
    return {
      get: async (key) => {
        dead();
        return await state.get(key);
      },
      list: async (prefix) => await state.list(prefix),
      put: async (key, value) => {
        this.point();
        await state.put(key, value);
        this.point();
      },
      delete: async (key) => {
        this.point();
        await state.delete(key);
        this.point();
      },
    };
  }
}

/** A spec in parts. */
export function spec(name: string, artifact: string, more: Partial<ProgramSpecInput> = {}): Partial<ProgramSpecInput> {
  return { name, artifact, ...more };
}

/** Gives one generation to a capability. */
export async function applyFull(
  capability: ProgramsCapability,
  generation: number,
  specs: readonly Partial<ProgramSpecInput>[],
): Promise<void> {
  const body = encodeDesiredState(specs.map(specMessage));
  await capability.applyState({ generation: BigInt(generation), baseGeneration: 0n, body });
}

/** Resolves with what `found` gives once it isn't undefined. */
export async function until<T>(what: string, found: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const end = performance.now() + 60_000;
  for (;;) {
    const value = await found();
    if (value !== undefined) return value;
    if (performance.now() > end) assert.fail(`waited in vain until ${what}`);
    await pause(2);
  }
}

/** Resolves once a program is in a state. */
export async function untilLife(
  capability: ProgramsCapability,
  name: string,
  ...kinds: ProgramView['life']['kind'][]
): Promise<ProgramView> {
  return await until(`${name} is ${kinds.join(' or ')}`, () => {
    const view = capability.look().find((one) => one.name === name);
    return view !== undefined && kinds.includes(view.life.kind) ? view : undefined;
  });
}
