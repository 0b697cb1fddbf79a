import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { DEFAULT_SESSIONS_CONFIG } from '../../../src/capabilities/sessions/config.ts';
import { tally, UNTRIED } from '../../../src/capabilities/sessions/health-check.ts';
import { parseSessionSpec } from '../../../src/capabilities/sessions/spec.ts';
import {
  decodeSessionAction,
  duration,
  type SessionSpecInit,
  sessionSpecMessage,
} from '../../../src/capabilities/sessions/wire.ts';
import { LonglineError } from '../../../src/core/errors.ts';

function parsed(spec: SessionSpecInit) {
  return parseSessionSpec(sessionSpecMessage({ image: 'desktop', ...spec }), DEFAULT_SESSIONS_CONFIG);
}

function fieldsOf(spec: SessionSpecInit): readonly string[] {
  try {
    parsed(spec);
    return [];
  } catch (error) {
    assert.ok(error instanceof LonglineError && error.reason === 'invalid', String(error));
    return error.violations.map(({ field }) => field.replace('spec.', ''));
  }
}

suite('a session spec', () => {
  test('is complete with nothing but an image', () => {
    const spec = parsed({});
    assert.equal(spec.image, 'desktop:latest');
    assert.deepEqual([spec.cpus, spec.memoryBytes, spec.pids, spec.shmBytes], [1, 1024 ** 3, 512, 64 * 1024 ** 2]);
    assert.deepEqual(spec.network, { mode: 'isolated', internal: false });
    assert.deepEqual([spec.restart.when, spec.restart.maxRestarts, spec.stopGraceMs], ['on_failure', 10, 10_000]);
    assert.deepEqual([spec.idle, spec.health, spec.lifetimeMs, spec.startTimeoutMs], [null, null, 0, 120_000]);
    assert.deepEqual(JSON.parse(JSON.stringify(spec)), spec);
  });

  test('makes a port and variables of its screen', () => {
    const spec = parsed({ vnc: { password: 'p', width: 800 }, ports: [{ name: 'web', number: 80, protocol: 3 }] });
    assert.deepEqual(spec.env, { VNC_PASSWORD: 'p', VNC_WIDTH: '800' });
    assert.deepEqual(spec.ports.at(-1), { name: 'vnc', number: 5900, protocol: 'vnc' });
    assert.equal(parsed({ vnc: { port: 80 }, ports: [{ name: 'web', number: 80 }] }).ports.length, 1);
  });

  test('is refused with every field that is wrong', () => {
    const wrong: [SessionSpecInit, string[]][] = [
      [{ image: 'UPPER' }, ['image']],
      [{ resources: { cpus: 101, memoryBytes: 1n } }, ['resources.cpus', 'resources.memory_bytes']],
      [
        {
          volumes: [
            { name: 'a', target: '/a' },
            { name: 'a', target: '/a' },
          ],
        },
        ['volumes[1].name', 'volumes[1].target'],
      ],
      [{ volumes: [{ name: 'a', target: '/a', scope: 2 }] }, ['volumes[0].scope']],
      [{ mounts: [{ source: 'etc', target: '/proc/x' }] }, ['mounts[0].source', 'mounts[0].target']],
      [{ network: { mode: 3, name: 'host' } }, ['network.name']],
      [{ network: { mode: 3, name: 'longline-session-other' } }, ['network.name']],
      [{ network: { mode: 2, internal: true } }, ['network.internal']],
      [
        {
          ports: [
            { name: 'a', number: 80 },
            { name: 'b', number: 80 },
          ],
        },
        ['ports[1].number'],
      ],
      [{ ports: [{ name: 'vnc', number: 1 }], vnc: { port: 2 } }, ['ports']],
      [{ idle: { pauseAfter: duration(60_000), stopAfter: duration(30_000) } }, ['idle.stop_after']],
      [{ idle: { pauseAfter: duration(1000) } }, ['idle.pause_after']],
      [{ healthCheck: {} }, ['health_check']],
      [
        { healthCheck: { probe: { case: 'tcp', value: { port: 0 } }, retries: 5, restartAfter: 2 } },
        ['health_check.restart_after', 'health_check.tcp.port'],
      ],
      [{ healthCheck: { probe: { case: 'http', value: { port: 80, path: 'x y' } } } }, ['health_check.http.path']],
      [{ restart: { mode: 9 as never, backoff: duration(10) } }, ['restart.backoff', 'restart.mode']],
      [{ labels: { 'longline.sessions': 'mine' } }, ['labels']],
      [{ stopSignal: '9', owner: 'a b', env: { '1': 'x' } }, ['env', 'stop_signal', 'owner']],
      [
        { sandbox: { user: 'a:b:c', addCapabilities: ['NOPE'], runtime: '../x' } },
        ['sandbox.user', 'sandbox.add_capabilities[0]', 'sandbox.runtime'],
      ],
      [{ maxLifetime: duration(1) }, ['max_lifetime']],
    ];
    for (const [spec, fields] of wrong) assert.deepEqual(fieldsOf(spec), fields, JSON.stringify(fields));
  });

  test('is parsed or refused as invalid, whatever it holds', () => {
    const text = fc.oneof(fc.string({ maxLength: 20 }), fc.constantFrom('/', '/a', 'a', ''));
    const anything = fc.record({
      image: text,
      command: fc.array(text, { maxLength: 3 }),
      env: fc.dictionary(text, text, { maxKeys: 3 }),
      owner: text,
      volumes: fc.array(fc.record({ name: text, target: text, scope: fc.integer({ min: 0, max: 5 }) }), {
        maxLength: 3,
      }),
      ports: fc.array(fc.record({ name: text, number: fc.nat(70_000), protocol: fc.integer({ min: 0, max: 9 }) }), {
        maxLength: 3,
      }),
      network: fc.record({ mode: fc.integer({ min: 0, max: 9 }), name: text, hostname: text, internal: fc.boolean() }),
    });
    fc.assert(
      fc.property(anything, (spec) => {
        fieldsOf(spec as SessionSpecInit);
      }),
    );
  });
});

test('bytes that are no action of a session are refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        decodeSessionAction(bytes);
      } catch (error) {
        assert.ok(error instanceof LonglineError && ['invalid', 'unsupported'].includes(error.reason), String(error));
      }
    }),
  );
});

test('health is counted in a row, failures of the start period left out', () => {
  const check = {
    ...{ probe: { kind: 'tcp', port: 1 } as const, intervalMs: 1, timeoutMs: 1 },
    ...{ retries: 2, startPeriodMs: 100, restartAfter: 3 },
  };
  let now = tally(UNTRIED, false, 50, check);
  assert.deepEqual(now, UNTRIED);
  const verdicts: string[] = [];
  for (const passed of [true, false, false, false, true, false]) {
    now = tally(now, passed, 200, check);
    verdicts.push(now.verdict);
  }
  assert.deepEqual(verdicts, ['healthy', 'healthy', 'unhealthy', 'restart', 'healthy', 'healthy']);
});
