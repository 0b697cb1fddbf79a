// What is said to systemd-resolved and resolvconf, word for word: neither can be had here without changing the machine's own
// names. The real ones were tried with it by hand.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { RunCommand } from '../../../src/core/command.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { ResolvconfNameServers } from '../../../src/platform/dns/resolvconf.ts';
import { ResolvedNameServers } from '../../../src/platform/dns/resolved.ts';

type Answer = { readonly code?: number; readonly stdout?: string; readonly stderr?: string };

/** Records what is run; `answer` says what a program prints. */
function recorder(answer: (line: string) => Answer = () => ({})) {
  const said: string[] = [];
  const run: RunCommand = async ({ argv, stdin }) => {
    const line = argv.join(' ');
    said.push(stdin === undefined ? line : `${line} < ${stdin.replaceAll('\n', '|')}`);
    return { code: 0, stdout: '', stderr: '', ...answer(line) };
  };
  return { said, run };
}

const SPLIT = { servers: ['10.0.0.1', 'fd00::1'], domains: ['corp.example', '~int.example'] };

describe('systemd-resolved', () => {
  it('sets servers and domains of the interface, only what differs, and reverts', async () => {
    const shown: Record<string, string> = {
      'resolvectl dns wg0': 'Link 3 (wg0): 10.0.0.1 fd00::1\n',
      'resolvectl domain wg0': 'Link 3 (wg0):\n',
      'resolvectl default-route wg0': 'Link 3 (wg0): yes\n',
    };
    const { run, said } = recorder((line) => ({ stdout: shown[line] ?? '' }));
    const resolved = new ResolvedNameServers(run);
    assert.deepEqual(await resolved.apply('wg0', SPLIT), []);
    await resolved.remove('wg0');
    assert.deepEqual(said, [
      'resolvectl dns wg0',
      'resolvectl domain wg0',
      'resolvectl domain wg0 corp.example ~int.example',
      'resolvectl default-route wg0',
      'resolvectl default-route wg0 no',
      'resolvectl revert wg0',
    ]);
  });

  it('takes all names where no domain is named', async () => {
    const { run, said } = recorder((line) => ({ stdout: line.endsWith('route wg0') ? 'Link 3 (wg0): yes' : '' }));
    await new ResolvedNameServers(run).apply('wg0', { ...SPLIT, domains: [] });
    assert.ok(said.includes('resolvectl domain wg0 ~.'));
    assert.equal(said.at(-1), 'resolvectl default-route wg0');
  });

  it('is in use where resolv.conf names it, and says why it is missing', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'longline-resolved-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const path = join(folder, 'resolv.conf');
    await writeFile(path, 'nameserver 127.0.0.53\n');
    const { run } = recorder();
    assert.deepEqual(await new ResolvedNameServers(run, path).probe(), { kind: 'in_use' });
    await writeFile(path, 'nameserver 127.0.0.1\n');
    assert.deepEqual(await new ResolvedNameServers(run, path).probe(), { kind: 'usable' });
    const down = recorder(() => ({ code: 1, stderr: 'Failed to get global data: Unit not found.' }));
    assert.deepEqual(await new ResolvedNameServers(down.run, path).probe(), {
      kind: 'missing',
      why: 'resolvectl dns: Failed to get global data: Unit not found.',
    });
  });

  it('forgets an interface that has gone, and fails for one that is somebody else’s', async () => {
    const gone = recorder(() => ({ code: 1, stderr: 'Failed to resolve interface "wg0": No such device' }));
    await new ResolvedNameServers(gone.run).remove('wg0');
    const managed = recorder(() => ({ code: 1, stderr: 'Failed to set DNS configuration: Link wg0 is managed.' }));
    await assert.rejects(new ResolvedNameServers(managed.run).apply('wg0', SPLIT), /Link wg0 is managed/);
  });
});

describe('resolvconf', () => {
  const flavour = (text: string) => (line: string) => (line.endsWith('--version') ? { stdout: text } : {});

  it('gives openresolv servers for all names, or for domains alone', async () => {
    const { run, said } = recorder(flavour('openresolv 3.12.0\n'));
    const resolvconf = new ResolvconfNameServers(run);
    assert.deepEqual(await resolvconf.apply('wg0', { ...SPLIT, domains: ['corp.example', '~.'] }), []);
    assert.match((await resolvconf.apply('wg0', SPLIT)).join(), /only to a local resolver/);
    await resolvconf.remove('wg0');
    assert.deepEqual(
      said.filter((line) => !line.endsWith('--version')),
      [
        'resolvconf -a tun.wg0 -m 0 -x < nameserver 10.0.0.1|nameserver fd00::1|search corp.example|',
        'resolvconf -a tun.wg0 -m 0 -p < nameserver 10.0.0.1|nameserver fd00::1|search corp.example int.example|',
        'resolvconf -d tun.wg0 -f',
      ],
    );
  });

  it("gives Debian's what it takes", async () => {
    const { run, said } = recorder(flavour('Debian resolvconf 1.91\n'));
    const resolvconf = new ResolvconfNameServers(run);
    assert.match((await resolvconf.apply('wg0', SPLIT)).join(), /knows no domains/);
    await resolvconf.remove('wg0');
    assert.equal(
      said[1],
      'resolvconf -a tun.wg0 < nameserver 10.0.0.1|nameserver fd00::1|search corp.example int.example|',
    );
    assert.equal(said.at(-1), 'resolvconf -d tun.wg0');
  });

  it("does without systemd's alias, and without any", async () => {
    const alias = await new ResolvconfNameServers(recorder(flavour('systemd 252\n')).run).probe();
    assert.deepEqual(alias, { kind: 'missing', why: "resolvconf is systemd-resolved's here" });
    const absent: RunCommand = async () => {
      throw new LonglineError('unsupported', 'there is no program "resolvconf" on this host');
    };
    assert.equal((await new ResolvconfNameServers(absent).probe()).kind, 'missing');
    const refused = recorder((line) =>
      line.includes('-a') ? { code: 1, stderr: 'no space' } : { stdout: 'openresolv' },
    );
    await assert.rejects(
      new ResolvconfNameServers(refused.run).apply('wg0', SPLIT),
      /resolvconf -a tun\.wg0.*no space/,
    );
  });
});
