// Puts an election together from settings: which lock, which replica this is, where epochs are kept. Loaded with --enable-ha
// only, and each backend only if it is the one that was chosen.
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Hangups } from '../../core/hangups.ts';
import type { LeaderLock } from '../../core/leader-lock.ts';
import type { Logger } from '../../core/logger.ts';
import { endNow } from '../../platform/process/immediate-end.ts';
import type { AgentConfig } from '../config.ts';
import { FolderInUse } from '../data-folder.ts';
import { Election } from './election.ts';
import { EpochRecord, epochFolder } from './epoch-record.ts';
import { endFrozenHolder } from './folder-holder.ts';
import { lastingTime } from './lasting-time.ts';
import type { Leadership, LeadershipView } from './leadership.ts';
import { runReplica, viewOf } from './replica.ts';
import { readTrusted } from './trusted-file.ts';

/** An agent that runs only while it leads. */
export interface ElectedAgent {
  readonly config: AgentConfig;
  /** This replica, as others see it. */
  readonly holder: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Shows the election until what it gives is disposed. */
  readonly elects: (election: Election, view: () => LeadershipView) => Disposable;
  /** It may have changed who leads. */
  readonly onHeard: (view: LeadershipView) => void;
  readonly lead: (leadership: Leadership, signal: AbortSignal) => Promise<void>;
  /** As ReplicaOptions.tend. */
  readonly tend: (signal: AbortSignal) => Promise<number | undefined>;
  /** It stands by from now on. */
  readonly onStandby: () => void;
  readonly hangups: Hangups;
  readonly signal: AbortSignal;
}

/** Longest that a first enrolment keeps this replica from standing by. */
const TEND_LIMIT_MS = 20_000;
/** How often a standby asks: what is asked by many agents of a cluster, less often. */
const RETRY_MS: Readonly<Record<AgentConfig['ha']['backend'], number>> = {
  file: 500,
  redis: 500,
  swarm: 1000,
  kubernetes: 1000,
};
/** As sysexits.h has it: a failure from within. */
const EX_SOFTWARE = 70;

/** Stands by and leads until the signal aborts. Rejects if the agent or its election can't start. */
export async function runElected(agent: ElectedAgent): Promise<void> {
  const { config, holder, clock, log, hangups, signal } = agent;
  const { backend, ttlMs, renewMs } = config.ha;
  const elapsed = lastingTime();
  // A standby has nothing to reload: it reads policy and trust when it leads.
  using _ = hangups.handle(() => log.debug('SIGHUP: a standby reads its files when it leads'));
  await tendFirst(agent);
  const epochs = await EpochRecord.open(epochFolder(config));
  await using lock = await makeLock(agent, holder, elapsed);
  const retryMs = Math.min(RETRY_MS[backend], renewMs);
  const view = () => viewOf(election, holder, backend);
  const onHeard = () => agent.onHeard(view());
  const election = new Election({ lock, epochs, ttlMs, renewMs, retryMs, clock, elapsed, log, onHeard });
  using _shown = agent.elects(election, view);
  await runReplica(
    {
      ...{
        election,
        holder,
        backend,
        view,
        clock,
        log,
        lead: agent.lead,
        tend: agent.tend,
        onStandby: agent.onStandby,
      },
      freeFolder: async ({ epoch, mayAct = () => true }, stop) =>
        await endFrozenHolder({ dataDir: config.dataDir, epoch, mayAct, clock, log }, stop),
      end: () => {
        log.error('the agent did not end when it lost the lead; the process ends');
        // What hangs may be a file operation, which an exit would wait for with the folder locked.
        endNow(EX_SOFTWARE);
      },
    },
    signal,
  );
}

/** A certificate is best had before there is need of it. Another replica that has the folder sees to it there. */
async function tendFirst({ tend, clock, log, signal }: ElectedAgent): Promise<void> {
  const late = new AbortController();
  const timer = new AbortController();
  const stop = () => late.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  clock.sleep(TEND_LIMIT_MS, timer.signal).then(
    () => late.abort(new LonglineError('late', `no controller was reached within ${TEND_LIMIT_MS} ms`)),
    () => undefined,
  );
  try {
    await tend(late.signal);
  } catch (error) {
    const transient = late.signal.aborted || (error instanceof LonglineError && error.retryable);
    if (signal.aborted || !(transient || error instanceof FolderInUse)) throw error;
    if (!(error instanceof FolderInUse)) log.warn('this replica stands by unprepared', { err: describeError(error) });
  } finally {
    timer.abort();
    signal.removeEventListener('abort', stop);
  }
}

async function makeLock({ config, clock }: ElectedAgent, holder: string, elapsed: () => number): Promise<LeaderLock> {
  const { agentId, ha } = config;
  switch (ha.backend) {
    case 'file': {
      const { LockFile } = await import('../../platform/flock/lock-file.ts');
      return new LockFile({ path: ha.lockFile ?? `/run/longline/${agentId}.lock`, agentId, holder });
    }
    case 'redis': {
      const { RedisLock } = await import('../../platform/redis/redis-lock.ts');
      const ca = ha.redisCaFile;
      const primary = ha.redisMasterName;
      return new RedisLock({
        ...{ agentId, holder, elapsed, ttlMs: ha.ttlMs, url: ha.redisUrl!.reveal() },
        ...(ha.redisUsername === undefined ? {} : { username: ha.redisUsername }),
        ...(ha.redisPassword === undefined ? {} : { password: ha.redisPassword.reveal() }),
        ...(ca === undefined ? {} : { trustedCertificates: await readTrusted('ha.redis_ca_file', ca) }),
        ...(primary === undefined ? {} : { sentinels: { addresses: ha.redisSentinels, primary } }),
      });
    }
    case 'kubernetes': {
      const { makeKubernetesLock } = await import('./kubernetes-lock.ts');
      return await makeKubernetesLock(config, holder, elapsed, clock);
    }
    case 'swarm': {
      const { LeaseLock } = await import('../../core/lease-lock.ts');
      const { LeaseService } = await import('../../platform/docker/swarm/lease-service.ts');
      const { parseEngineAddress } = await import('../../platform/docker/engine-address.ts');
      const address = parseEngineAddress(config.dockerHost);
      const service = ha.swarmService;
      const store = new LeaseService({ address, agentId, ...(service === undefined ? {} : { service }) });
      return new LeaseLock(store, { holder, elapsed, ttlMs: ha.ttlMs });
    }
  }
}
