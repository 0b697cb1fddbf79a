// Every leader lock keeps one contract.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LockFile } from '../../src/platform/flock/lock-file.ts';
import { RedisConnection } from '../../src/platform/redis/redis-connection.ts';
import { RedisLock } from '../../src/platform/redis/redis-lock.ts';
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

leaderLockContract('a locked file', fileStage);
remoteLockContract('Redis', redisStage, missingRedis ?? false);
