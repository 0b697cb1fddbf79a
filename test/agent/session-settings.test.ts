import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { agentConfig } from '../../src/agent/config.ts';
import { sessionsConfigOf } from '../../src/agent/sessions-setup.ts';
import { DEFAULT_SESSIONS_CONFIG } from '../../src/capabilities/sessions/config.ts';
import { resolveConfig } from '../../src/core/config/resolve.ts';

const GIB = 1024 ** 3;

function resolved(env: Record<string, string>, flags: Record<string, readonly string[]> = {}, toml?: string) {
  const file = toml === undefined ? {} : { file: { path: 'agent.toml', text: toml } };
  const result = resolveConfig(agentConfig, {
    flags: new Map(Object.entries(flags)),
    env,
    ...file,
  });
  if (!result.ok) return result.problems.map((problem) => JSON.stringify(problem)).join('\n');
  return result.config;
}

function config(...args: Parameters<typeof resolved>) {
  const found = resolved(...args);
  assert.ok(typeof found !== 'string', String(found));
  return found;
}

suite('settings of sessions', () => {
  test('are those of the capability unless said otherwise', () => {
    assert.deepEqual(sessionsConfigOf(config({})), DEFAULT_SESSIONS_CONFIG);
    assert.equal(config({}).heartbeatIntervalMs, 30_000);
  });

  test('are understood under the names that people know, with their meanings', () => {
    const known = {
      ...{ MAX_CPU: '12.5', MAX_MEMORY: '64', MAX_SESSIONS: '7', NETWORK_NAME: 'desk', VOLUME_DRIVER: 'nfs' },
      ...{ HEALTH_CHECK_INTERVAL: '20', PLATFORM: 'docker', REGION: 'us-east-1', AGENT_ID: 'one' },
    };
    const { sessions, heartbeatIntervalMs, platform, region, agentId } = config(known);
    assert.deepEqual(sessions.limits, { maxCpus: 12.5, maxMemoryBytes: 64 * GIB, maxSessions: 7 });
    assert.deepEqual([sessions.networkName, sessions.volumeDriver], ['desk', 'nfs']);
    assert.deepEqual([heartbeatIntervalMs, platform, region, agentId], [20_000, 'docker', 'us-east-1', 'one']);
  });

  test('take sizes with a unit, and a bare number of memory as GiB from every source', () => {
    assert.equal(config({}, { '--max-memory': ['512MiB'] }).sessions.limits.maxMemoryBytes, GIB / 2);
    assert.equal(config({}, { '--max-memory': ['128'] }).sessions.limits.maxMemoryBytes, 128 * GIB);
    assert.equal(config({}, {}, 'max_memory = 2').sessions.limits.maxMemoryBytes, 2 * GIB);
    assert.equal(config({}, {}, 'max_memory = "3GiB"').sessions.limits.maxMemoryBytes, 3 * GIB);
  });

  test('refuse what makes no sense, with the name and what would be right', () => {
    assert.match(String(resolved({ MAX_MEMORY: '1MiB' })), /max_memory.*bare number is GiB/s);
    assert.match(
      String(resolved({}, {}, '[sessions]\nsubnet_pool = "10.0.0.0/30"')),
      /subnet_pool.*at least 16 addresses/s,
    );
    const marks = '[sessions]\nimage_gc_low = 90\nimage_gc_high = 80';
    assert.match(String(resolved({}, {}, marks)), /image_gc_low.*more than sessions\.image_gc_high/s);
  });
});
