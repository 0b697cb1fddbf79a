import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { agentConfig } from '../../src/agent/config.ts';
import { natsSettings } from '../../src/agent/program-service-settings.ts';
import { DEFAULT_PROGRAMS_CONFIG } from '../../src/capabilities/programs/config.ts';
import { exampleFile } from '../../src/core/config/reference.ts';
import { resolveConfig } from '../../src/core/config/resolve.ts';

function resolved(env: Record<string, string>, toml?: string) {
  const file = toml === undefined ? {} : { file: { path: 'agent.toml', text: toml } };
  const result = resolveConfig(agentConfig, { env, ...file, readSecret: () => 's.secret' });
  if (!result.ok) return result.problems.map((problem) => JSON.stringify(problem)).join('\n');
  return result.config;
}

function programs(...args: Parameters<typeof resolved>) {
  const found = resolved(...args);
  assert.ok(typeof found !== 'string', String(found));
  return found.programs;
}

suite('settings of programs', () => {
  test('are those of the capability unless said otherwise, and ask nobody that nobody named', () => {
    const { limits, registry, keys, vault, nats, cacheDir } = programs({});
    assert.deepEqual(limits, DEFAULT_PROGRAMS_CONFIG);
    assert.deepEqual([registry.url, vault.url, nats.urls, cacheDir], ['', undefined, [], undefined]);
    assert.deepEqual([keys.publicKey, keys.files, nats.telemetrySubject], [undefined, [], 'agent.telemetry']);
  });

  test('show no password of a URL of NATS', () => {
    const env = { AGENT_NATS_URL: 'nats://agent:pa@ss@a:4222,tls://t0ken@b,nats://c/' };
    assert.deepEqual(programs(env).nats.urls, ['nats://agent:pa@ss@a:4222', 'tls://t0ken@b', 'nats://c']);
    const shown = '["nats://[redacted]@a:4222", "tls://[redacted]@b", "nats://c"]';
    assert.equal(natsSettings.urls.type.toToml(programs(env).nats.urls), shown);
  });

  test('are understood under the names that people know, with their meanings', () => {
    const known = {
      ...{ AGENT_HOST_ID: 'host-001', AGENT_LOG_LEVEL: 'debug', AGENT_PUBLIC_KEY: 'MCowBQYDK2VwAyEA' },
      ...{ AGENT_REGISTRY_URL: 'http://localhost:8084', AGENT_POLL_INTERVAL_SEC: '45' },
      ...{ AGENT_NATS_URL: 'nats://localhost:4222', AGENT_TELEMETRY_SUBJECT: 'edge.telemetry' },
      ...{ AGENT_VAULT_URL: 'http://localhost:8200', AGENT_VAULT_TOKEN: 'dev-token' },
      ...{ AGENT_CACHE_DIR: '/tmp/aegisflux-agent', AGENT_MAX_PROGRAMS: '3', AGENT_DEFAULT_TTL_SEC: '60' },
      ...{ AGENT_ROLLBACK_MAX_ERRORS: '1', AGENT_ROLLBACK_MAX_VIOLATIONS: '2' },
      ...{ AGENT_ROLLBACK_MAX_CPU_PERCENT: '12.5', AGENT_ROLLBACK_MAX_LATENCY_MS: '0.5' },
      ...{ AGENT_ROLLBACK_MAX_MEMORY_KB: '4096', AGENT_ROLLBACK_VERIFIER_FAILURE: 'false' },
      ...{ AGENT_ROLLBACK_CHECK_INTERVAL_SEC: '10', AGENT_ROLLBACK_DELAY_SEC: '7' },
    };
    const found = resolved(known);
    assert.ok(typeof found !== 'string', String(found));
    assert.deepEqual([found.agentId, found.log.level], ['host-001', 'debug']);
    const { limits, registry, keys, vault, nats, cacheDir } = found.programs;
    assert.deepEqual([registry.url, limits.pollIntervalMs], ['http://localhost:8084', 45_000]);
    assert.deepEqual([nats.urls, nats.telemetrySubject], [['nats://localhost:4222'], 'edge.telemetry']);
    assert.deepEqual([vault.url, vault.token?.reveal()], ['http://localhost:8200', 'dev-token']);
    assert.deepEqual([keys.publicKey, cacheDir], ['MCowBQYDK2VwAyEA', '/tmp/aegisflux-agent']);
    assert.deepEqual([limits.maxPrograms, limits.defaultTtlMs], [3, 60_000]);
    const { minRuns } = DEFAULT_PROGRAMS_CONFIG.thresholds;
    const thresholds = {
      maxErrors: 1,
      maxViolations: 2,
      maxCpuPercent: 12.5,
      maxLatencyMs: 0.5,
      maxMemoryKb: 4096,
      minRuns,
    };
    assert.deepEqual(limits.thresholds, thresholds);
    assert.deepEqual(
      [limits.rollBackOnVerifierFailure, limits.checkIntervalMs, limits.rollbackDelayMs],
      [false, 10_000, 7000],
    );
  });

  test('are taken from a file, durations with a unit, secrets by their file only', () => {
    const { limits, vault } = programs(
      {},
      '[programs]\nwhen_full = "refuse"\nat_shutdown = "unload"\nprobation = "2m"\nvault_token_file = "/etc/token"',
    );
    assert.deepEqual([limits.whenFull, limits.atShutdown, limits.probationMs], ['refuse', 'unload', 120_000]);
    assert.equal(vault.token?.reveal(), 's.secret');
    assert.match(
      String(resolved({}, '[programs]\nvault_token = "s.secret"')),
      /programs\.vault_token.*does not belong/s,
    );
  });

  test('name a registry by its URL, or the controller as one', () => {
    const url = (text: string) =>
      programs({ LONGLINE_CONTROLLER: 'https://c:1', AGENT_REGISTRY_URL: text }).registry.url;
    assert.equal(url('controller'), 'controller');
    assert.equal(url('https://registry.example.net/bpf/'), 'https://registry.example.net/bpf');
    for (const bad of ['registry', 'ftp://host', 'https://', 'https://user:pass@host', 'https://host/?a=b']) {
      assert.match(
        String(resolved({ AGENT_REGISTRY_URL: bad })),
        /programs\.registry_url.*not a URL that is allowed/s,
        bad,
      );
    }
  });

  test('refuse what makes no sense together, with what would be right', () => {
    const wrong: readonly [string, RegExp][] = [
      ['registry_url = "controller"', /registry_url.*there is no controller/],
      ['registry_url = "http://host:1"\nregistry_token_file = "/t"', /registry_url.*not encrypted.*use https/],
      ['registry_token_file = "/t"', /registry_token.*needs a URL in programs\.registry_url/],
      [
        'registry_url = "https://h"\nregistry_cert_file = "/c"',
        /registry_cert_file.*together with programs\.registry_key_file/,
      ],
      ['nats_key_file = "/k"', /nats_cert_file.*together with programs\.nats_key_file/],
      ['nats_password_file = "/p"', /nats_password.*needs programs\.nats_user/],
      ['vault_url = "https://v"', /vault_url.*needs programs\.vault_token or programs\.vault_role_id/],
      ['vault_url = "http://v:8200"\nvault_role_id = "r"', /vault_url.*not encrypted.*use https/],
      ['vault_kv_version = 3', /programs\.vault_kv_version.*1 to 2/],
      ['vault_secret_id_file = "/s"', /vault_secret_id.*needs programs\.vault_role_id/],
      ['vault_role_id = "r"\nvault_token_file = "/t"', /vault_role_id.*beside programs\.vault_token/],
      ['max_programs = 0', /programs\.max_programs.*allowed: 1 to 1000/],
      ['when_full = "panic"', /programs\.when_full.*refuse, replace_oldest/],
      ['vault_kv_path = "/slash"', /programs\.vault_kv_path.*without a slash/],
      ['telemetry_subject = "agent.>"', /programs\.telemetry_subject.*without wildcards/],
    ];
    for (const [toml, message] of wrong) assert.match(String(resolved({}, `[programs]\n${toml}`)), message, toml);
    assert.ok(programs({}, '[programs]\nregistry_url = "http://127.0.0.1:8084"\nregistry_token_file = "/t"'));
  });

  test('stand in the example file, which changes nothing as it is', () => {
    const text = exampleFile(agentConfig);
    assert.match(text, /\[programs\][\s\S]*# max_programs = 10\n/);
    assert.deepEqual(programs({}, text), programs({}));
  });
});
