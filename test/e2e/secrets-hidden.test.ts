// No secret of the settings shows up in anything that an agent writes or tells, whatever it is used for and however that fails.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { inspect } from 'node:util';
import { agentConfig } from '../../src/agent/config.ts';
import { configError, resolveConfig } from '../../src/core/config/resolve.ts';
import { settingsOf } from '../../src/core/config/setting.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { RunningCommand, runCommand } from '../fixtures/command.ts';

const SECRETS = settingsOf(agentConfig.table).filter(({ setting }) => setting.secret);
/** What every value below has in it. */
const MARK = 'c0ffee5ec2e7';
/** Those that have a form of their own. */
const FORMED: Readonly<Record<string, string>> = {
  api_key: MARK.padEnd(64, '0'),
  'ha.redis_url': `redis://agent:${MARK}@127.0.0.1:9/0`,
};
const valueFor = (key: string) => FORMED[key] ?? `${MARK}-${key.replaceAll('.', '-')}`;
/** Where nobody listens, so that each use fails and is told. */
const NOBODY = '127.0.0.1:9';
/** What can't be given together. */
const VARIANTS: readonly { readonly without: RegExp; readonly args: readonly string[] }[] = [
  { without: /secret_id$|nats_password$/, args: [] },
  { without: /vault_token$|nats_token$/, args: ['--programs-vault-role-id', 'role', '--programs-nats-user', 'agent'] },
];

function environment(without: RegExp): Record<string, string> {
  const given = SECRETS.filter(({ setting }) => !without.test(setting.key));
  return Object.fromEntries(given.map(({ setting }) => [setting.env[0]!, valueFor(setting.key)]));
}

describe('secrets of the settings', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-secrets-'));
  });
  after(async () => await rm(folder, { recursive: true, force: true }));

  it('are all tried', () => {
    const untried = SECRETS.filter(({ setting }) => VARIANTS.every(({ without }) => without.test(setting.key)));
    assert.deepEqual(untried, []);
    assert.ok(SECRETS.length >= 7, `${SECRETS.length}`);
  });

  it('are not in a configuration that is printed, logged or refused', () => {
    const lines: string[] = [];
    const log = createLogger({ level: 'debug', name: 'test', destination: { write: (line) => void lines.push(line) } });
    for (const { setting } of SECRETS) {
      const sources = (value: string) => ({
        flags: new Map(),
        env: { [setting.env[0]!]: value },
        file: undefined,
        readSecret: () => '',
      });
      // Bad by its pattern, where it has one, or by what goes with it.
      for (const value of [valueFor(setting.key), `${valueFor(setting.key)} with blanks`]) {
        const result = resolveConfig(agentConfig, sources(value));
        const told = result.ok ? result.config : configError(result.problems);
        log.info('settings', { config: told, env: inspect(told, { depth: 9 }), err: told });
        lines.push(JSON.stringify(told), String(told), inspect(told, { depth: 9, showHidden: true }));
      }
    }
    assert.doesNotMatch(lines.join('\n'), new RegExp(MARK));
  });

  for (const [index, { without, args }] of VARIANTS.entries()) {
    it(`are not in what an agent logs and tells, ${index + 1} of ${VARIANTS.length}`, async () => {
      const data = join(folder, `agent-${index}`);
      const socket = join(data, 'http.sock');
      const env = { PATH: process.env['PATH'], HOME: folder, NO_COLOR: '1', ...environment(without) };
      const services = ['--programs-registry-url', `http://${NOBODY}`, '--programs-vault-url', `http://${NOBODY}`];
      const where = [...services, '--programs-nats-url', `nats://${NOBODY}`, '--docker-host', `unix://${data}/none`];
      const own = [
        '--controller',
        `https://${NOBODY}`,
        '--data-dir',
        data,
        '--http-port',
        '0',
        '--http-socket',
        socket,
      ];
      await using agent = new RunningCommand(['agent', '--log-level', 'debug', ...own, ...where, ...args], env);
      const logged = (text: string, times = 1) =>
        agent.until(text, () => (agent.stderr.split(text).length > times ? true : undefined));
      await logged('agent is running');
      await logged('no link to the controller', 2);
      agent.process.kill('SIGHUP');
      await logged('read anew');
      const told: string[] = [];
      for (const words of [['status'], ['status', '--health'], ['doctor']]) {
        const { stdout, stderr } = await runCommand([...words, '--data-dir', data, '--json'], env);
        told.push(stdout.toString(), stderr);
      }
      const shown = await runCommand(['config', 'show', 'agent'], env);
      const { code, stdout, stderr } = await agent.stop();
      assert.equal(code, 0, stderr);
      assert.match(told.join(), /"link_state"/);
      assert.doesNotMatch([stdout, stderr, ...told, shown.stdout, shown.stderr].join('\n'), new RegExp(MARK));
    });
  }
});
