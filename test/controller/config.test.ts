import assert from 'node:assert/strict';
import { it } from 'node:test';
import { certificateHosts, compileControllerOptions, controllerUrl } from '../../src/controller/config.ts';
import { LonglineError } from '../../src/core/errors.ts';

const base = { dataDir: '/data' };

it('takes addresses in every form, and gives the URL under which others reach it', () => {
  const cases: [string, string | undefined, string][] = [
    ['127.0.0.1:7443', undefined, 'https://127.0.0.1:7443'],
    ['[::1]:7443', undefined, 'https://[::1]:7443'],
    [':7443', undefined, 'https://localhost:7443'],
    ['0.0.0.0:7443', undefined, 'https://localhost:7443'],
    ['0.0.0.0:7443', 'fleet.example', 'https://fleet.example:7443'],
    ['0.0.0.0:7443', 'fleet.example:443', 'https://fleet.example:443'],
    ['0.0.0.0:7443', '2001:db8::1', 'https://[2001:db8::1]:7443'],
  ];
  for (const [listen, advertise, url] of cases) {
    const config = compileControllerOptions({ ...base, listen, ...(advertise === undefined ? {} : { advertise }) });
    assert.equal(controllerUrl(config, config.listen.port), url);
  }
});

it('names every wrong value', () => {
  assert.throws(
    () =>
      compileControllerOptions({
        dataDir: '',
        listen: 'nowhere',
        advertise: 'a b',
        plaintextListen: '0.0.0.0:80',
        logLevel: 'loud' as 'info',
        agentCertificateLifetimeMs: 1,
        drainWindowMs: -1,
      }),
    (error: LonglineError) => {
      const fields = error.violations.map(({ field }) => field);
      assert.deepEqual(fields, [
        'listen',
        'advertise',
        'plaintext-listen',
        'data-dir',
        'log-level',
        'agent-certificate-lifetime',
        'drain-window',
      ]);
      return error.reason === 'invalid';
    },
  );
  for (const listen of ['127.0.0.1', '127.0.0.1:70000', 'a b:1', '[::1:1', ':x']) {
    assert.throws(() => compileControllerOptions({ ...base, listen }), LonglineError, listen);
  }
});

it('says what numbers of things to keep may be, as numbers', () => {
  const keep = { events: 0, maxJobs: 1.5, maxLogBytes: 10 };
  assert.throws(
    () => compileControllerOptions({ ...base, keep }),
    ({ violations }: LonglineError) => {
      assert.deepEqual(violations, [
        { field: 'keep-events', description: 'is 0; it must be a whole number from 1 to 100000' },
        { field: 'keep-max-jobs', description: 'is 1.5; it must be a whole number from 100 to 100000000' },
        {
          field: 'keep-max-log-size',
          description: 'is 10; it must be a whole number from 1048576 to 1125899906842624',
        },
      ]);
      return true;
    },
  );
});

it('listens in plaintext on loopback only, unless the network is declared trusted', () => {
  for (const plaintextListen of ['127.0.0.1:0', 'localhost:0', '[::1]:0'])
    compileControllerOptions({ ...base, plaintextListen });
  assert.throws(() => compileControllerOptions({ ...base, plaintextListen: '10.0.0.1:80' }), /declared trusted/);
  compileControllerOptions({ ...base, plaintextListen: '10.0.0.1:80', plaintextTrusted: true });
});

it('asks for certificates that are good for every name it goes by', () => {
  const config = compileControllerOptions({ ...base, listen: '0.0.0.0:1', advertise: 'fleet.example' });
  const hosts = certificateHosts(config);
  for (const host of ['fleet.example', 'localhost', '127.0.0.1', '::1']) assert.ok(hosts.includes(host), host);
  assert.ok(!hosts.includes('0.0.0.0'));
});
