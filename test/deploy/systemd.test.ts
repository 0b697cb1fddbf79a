import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { runCommand } from '../../deploy/dev/command.ts';

const ROOT = join(import.meta.dirname, '../..');
const UNITS = join(ROOT, 'deploy/systemd');
const probe = await runCommand(['systemd-analyze', '--version']);
const missing = probe.code === 0 ? false : 'needs systemd-analyze, from the package systemd';

/** Copies a unit with the install folder replaced by this checkout, which is what exists here. */
async function analyze(name: string, change: (text: string) => string, ...args: string[]) {
  const folder = await mkdtemp(join(tmpdir(), 'longline-unit-'));
  try {
    await mkdir(join(folder, 'units'));
    const unit = join(folder, 'units', name);
    const text = await readFile(join(UNITS, name), 'utf8');
    await writeFile(unit, change(text.replaceAll('/opt/longline', ROOT)));
    return await runCommand(['systemd-analyze', ...args, unit], { env: { SYSTEMD_UNIT_PATH: `${folder}/units:` } });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const NAMES = ['longline-agent.service', 'longline-controller.service', 'longline-network.service'];

describe('systemd units', { skip: missing }, () => {
  test('there are units for agent, controller and networks', async () => {
    assert.deepEqual((await readdir(UNITS)).sort(), NAMES);
  });

  for (const name of NAMES) {
    test(`${name} is understood in full`, async () => {
      const { code, stdout, stderr } = await analyze(name, (text) => text, 'verify', '--man=no');
      const ours = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('longline'));
      assert.deepEqual(ours, []);
      assert.equal(code, 0, stderr);
    });

    test(`a mistake in ${name} would show`, async () => {
      const broken = await analyze(
        name,
        (text) => text.replace('Restart=always', 'Restart=sometimes'),
        'verify',
        '--man=no',
      );
      assert.match(broken.stdout + broken.stderr, /Failed to parse.*sometimes/);
    });
  }

  for (const name of ['longline-agent.service', 'longline-network.service']) {
    test(`${name} is confined: exposure at most 5 of 10`, async () => {
      const { stdout, stderr } = await analyze(name, (text) => text, 'security', '--offline=true');
      const exposure = Number(/Overall exposure level for [^:]+: ([\d.]+)/.exec(stdout)?.[1]);
      assert.ok(exposure <= 5, `${exposure}\n${stderr}\n${stdout.slice(0, 2000)}`);
    });
  }

  test('what carries networks outlives the agent and the service', async () => {
    for (const name of ['longline-agent.service', 'longline-network.service']) {
      assert.match(await readFile(join(UNITS, name), 'utf8'), /^KillMode=process$/m);
    }
  });
});
