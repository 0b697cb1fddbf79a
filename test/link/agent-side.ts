// What the tests of the link put in the place of an agent: admission, an executor under control, and a target.
import { create, toBinary } from '@bufbuild/protobuf';
import { AgentFactsSchema, AgentUsageSchema } from '#gen/longline/v1/agent_pb.js';
import { JobProgressSchema, JobResultSchema, JobState } from '#gen/longline/v1/job_pb.js';
import type { CapabilityCommand, CapabilityEvent, CommandContext } from '../../src/core/capability.ts';
import { systemClock } from '../../src/core/clock.ts';
import type { LonglineError } from '../../src/core/errors.ts';
import { Link, type LinkOptions } from '../../src/link/link.ts';
import type { LinkLimits } from '../../src/link/link-limits.ts';
import type { AdmittedCommand, CommandAdmission, CommandExecutor, LinkTarget } from '../../src/link/ports.ts';
import type { TestPki } from './certificates.ts';
import { RecordedLog } from './scratch.ts';

/** Serialised JobResult. */
export const RESULT = toBinary(JobResultSchema, create(JobResultSchema, { state: JobState.SUCCEEDED, exitCode: 0 }));
/** Serialised JobProgress. */
export const PROGRESS = toBinary(
  JobProgressSchema,
  create(JobProgressSchema, { step: { case: 'queued', value: { position: 1 } } }),
);

/** Admits everything, unless told otherwise. */
export class OpenAdmission implements CommandAdmission {
  nonce = new Uint8Array();
  before: (id: string) => Promise<void> = async () => undefined;
  /** When the audit record of an admission is durable. */
  recorded: (id: string) => Promise<void> = async () => undefined;
  /** What the link refused by itself: command id and reason. */
  readonly refusals: string[] = [];

  async admit(command: { readonly id: string }, seen: (nonce: Uint8Array) => boolean): Promise<AdmittedCommand> {
    await this.before(command.id);
    if (seen(this.nonce)) throw new Error('the dispatcher let a known nonce through');
    const nonceExpiresAtMs = Date.now() + 60_000;
    const recorded = this.recorded(command.id);
    recorded.catch(() => undefined);
    return { capability: 'jobs', action: Buffer.from(command.id), nonce: this.nonce, nonceExpiresAtMs, recorded };
  }

  refused(command: { readonly id: string }, error: LonglineError): void {
    this.refusals.push(`${command.id} ${error.reason}`);
  }
}

/** Counts starts and lets the test decide how commands end. */
export class ScriptedExecutor implements CommandExecutor {
  readonly starts: { id: string; resumed: boolean }[] = [];
  readonly inputs = new Map<string, string>();
  run: (command: CapabilityCommand, context: CommandContext) => AsyncIterable<CapabilityEvent> = async function* () {
    yield { kind: 'progress', detail: PROGRESS };
    yield { kind: 'result', outcome: 'succeeded', detail: RESULT };
  };

  /** Ids in the order they were handed over, be they durable or not. */
  readonly prepared: string[] = [];

  async *execute(_capability: string, command: CapabilityCommand, context: CommandContext) {
    this.prepared.push(command.id);
    await context.durable;
    this.starts.push({ id: command.id, resumed: context.resumed });
    yield* this.run(command, context);
  }

  async writeInput(commandId: string, offset: number, data: Uint8Array, end: boolean) {
    const had = this.inputs.get(commandId) ?? '';
    const text =
      had +
      Buffer.from(data)
        .toString()
        .slice(Math.max(0, had.length - offset));
    this.inputs.set(commandId, text);
    return { taken: text.length, closed: end };
  }
}

/** Ends when the signal aborts, with the outcome "cancelled". */
export async function* untilCancelled(_command: CapabilityCommand, { signal }: CommandContext) {
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  yield { kind: 'result', outcome: 'cancelled', detail: RESULT } as const;
}

/** Short waits between tries. No limit on a try itself: a machine under load may need seconds for one that succeeds. */
const QUICK: Partial<LinkLimits> = { backoffBaseMs: 20, backoffCapMs: 100 };

/** A link with its stand-ins. `port` may change between connections. */
export class AgentSide implements AsyncDisposable {
  readonly link: Link;
  readonly log: RecordedLog;
  readonly executor: ScriptedExecutor;
  readonly admission: OpenAdmission;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  private constructor(link: Link, log: RecordedLog, executor: ScriptedExecutor, admission: OpenAdmission) {
    this.link = link;
    this.log = log;
    this.executor = executor;
    this.admission = admission;
  }

  static async open(
    dataDir: string,
    port: () => number,
    options: { pki?: TestPki; limits?: Partial<LinkLimits>; executor?: ScriptedExecutor } & Partial<LinkOptions> = {},
  ): Promise<AgentSide> {
    const { pki, limits, executor = new ScriptedExecutor(), ...rest } = options;
    const log = new RecordedLog();
    const admission = new OpenAdmission();
    const target = (): LinkTarget => ({
      url: `${pki === undefined ? 'http' : 'https'}://127.0.0.1:${port()}`,
      agentId: 'agent-under-test',
      instanceId: '01980000-0000-7000-8000-000000000001',
      bootId: '01980000-0000-7000-8000-000000000002',
      leaderEpoch: 0n,
      credentials:
        pki === undefined
          ? { kind: 'api_key', apiKey: 'a'.repeat(64), trustedCertificates: undefined }
          : {
              kind: 'certificate',
              certificateChain: pki.agent.certificate,
              privateKey: pki.agent.privateKey,
              trustedCertificates: pki.authority,
            },
    });
    const link = await Link.open({
      dataDir,
      targets: { current: async () => target(), proven: () => undefined },
      admission,
      executor,
      report: {
        facts: () => create(AgentFactsSchema, { version: '0.1.0', hostname: 'host', labels: { a: 'b'.repeat(300) } }),
        usage: async () => create(AgentUsageSchema, { maxJobs: 5 }),
      },
      clock: systemClock,
      log,
      limits: { ...QUICK, ...limits },
      ...rest,
    });
    return new AgentSide(link, log, executor, admission);
  }

  /** Resumes and runs in the background. */
  async start(): Promise<void> {
    await this.link.resume();
    this.#running = this.link.run(this.#stop.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.link[Symbol.asyncDispose]();
  }
}
