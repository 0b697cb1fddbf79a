// Every leader lock keeps one contract.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LeaseLock } from '../../src/core/lease-lock.ts';
import { LockFile } from '../../src/platform/flock/lock-file.ts';
import { KubernetesLeaseStore } from '../../src/platform/kubernetes/lease-store.ts';
import { RedisConnection } from '../../src/platform/redis/redis-connection.ts';
import { RedisLock } from '../../src/platform/redis/redis-lock.ts';
import { FaultProxy } from '../fixtures/fault-proxy.ts';
import { KubernetesApi } from '../fixtures/kubernetes-api.ts';
import { type RealCluster, realCluster } from '../fixtures/real-cluster.ts';
import { missingRedis, RedisServer } from '../fixtures/redis-server.ts';
import {
  type LockStage,
  leaderLockContract,
  type RemoteLockStage,
  remoteLockContract,
} from './leader-lock-contract.ts';

const TTL_MS = 60_000;
const never = new AbortController().signal;

async function fileStage(): Promise<LockStage> {
  const folder = await mkdtemp(join(tmpdir(), 'locks-'));
  return {
    lock: (holder, agentId) => new LockFile({ path: join(folder, `${agentId}.lock`), agentId, holder }),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

async function redisStage(): Promise<RemoteLockStage> {
  // Its file is what makes it remember over a kill.
  const redis = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always');
  const raw = new RedisConnection({ url: redis.url });
  let nowMs = 0;
  return {
    lock: (holder, agentId) => new RedisLock({ url: redis.url, agentId, holder, ttlMs: TTL_MS, elapsed: () => nowMs }),
    pass: async () => {
      nowMs += TTL_MS;
      // As if they had been written a period ago.
      await raw.run(
        "for _, key in ipairs(redis.call('KEYS', '*:leader')) do redis.call('DEL', key) end",
        [],
        [],
        never,
      );
    },
    forget: async () => {
      await raw.run("return redis.call('FLUSHALL')", [], [], never);
    },
    away: () => redis.kill(),
    back: () => redis.resume(),
    [Symbol.asyncDispose]: async () => {
      raw[Symbol.dispose]();
      await redis[Symbol.asyncDispose]();
    },
  };
}

async function kubernetesStage(): Promise<RemoteLockStage> {
  const api = await KubernetesApi.start();
  return {
    ...leaseLocks(() => api.place),
    forget: async () => api.leases.clear(),
    away: () => api.stop(),
    back: () => api.resume(),
    [Symbol.asyncDispose]: async () => {
      await api[Symbol.asyncDispose]();
      assert.deepEqual(api.violations, []);
    },
  };
}

/** A real one, of which the environment tells: for a try by hand. Its token has to have the verb delete, too. */
async function realClusterStage(real: RealCluster): Promise<RemoteLockStage> {
  const proxy = await FaultProxy.start(real.port);
  const locks = leaseLocks(() => ({ ...real, host: '127.0.0.1', port: proxy.port }));
  return {
    ...locks,
    forget: () => real.forget(),
    away: async () => {
      proxy.inject({ kind: 'refuse' });
      proxy.reset();
    },
    back: async () => proxy.inject({ kind: 'pass' }),
    [Symbol.asyncDispose]: async () => {
      await real.forget();
      await proxy[Symbol.asyncDispose]();
    },
  };
}

function leaseLocks(place: () => KubernetesApi['place'] & { readonly namespace?: string }) {
  let nowMs = 0;
  return {
    lock: (holder: string, agentId: string) => {
      const elapsed = () => nowMs;
      const store = new KubernetesLeaseStore({
        ...{ namespace: 'longline', ...place(), name: `longline-${agentId}`, agentId },
        ...{ ttlMs: TTL_MS, timeoutMs: 60_000, elapsed, now: Date.now },
      });
      return new LeaseLock(store, { holder, ttlMs: TTL_MS, elapsed });
    },
    pass: async () => {
      nowMs += TTL_MS;
    },
  };
}

leaderLockContract('a locked file', fileStage);
remoteLockContract('Redis', redisStage, missingRedis ?? false);
remoteLockContract('a Lease', kubernetesStage);
const real = realCluster();
if (real !== undefined) remoteLockContract('a Lease of a real cluster', () => realClusterStage(real));
