import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { LonglineError } from '../../../src/core/errors.ts';
import { DnsmasqNameServers } from '../../../src/platform/dns/dnsmasq.ts';
import { type LabHost, NetworkLab, netnsMissing, programMissing } from '../../fixtures/netns.ts';

async function place(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'longline-dnsmasq-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return { folder, serversFile: join(folder, 'servers'), pidFile: join(folder, 'pid') };
}

/** Waits until `look` gives true; the test runner's limit is the only one, since a machine may be slow. */
async function until(signal: AbortSignal, look: () => Promise<boolean>): Promise<void> {
  while (!(await look())) await pause(20, undefined, { signal });
}

describe('dnsmasq', { skip: netnsMissing() ?? programMissing('dnsmasq', 'dnsmasq-base') }, () => {
  it('asks for the domains of an interface at its servers, and for others as before', async (t) => {
    await using lab = await NetworkLab.create(2);
    const [host, upstream] = lab.hosts as [LabHost, LabHost];
    const { folder, pidFile, serversFile } = await place(t);
    await writeFile(serversFile, '');
    const start = (where: LabHost, pid: string, ...more: string[]) =>
      where.spawn([
        ...[
          'dnsmasq',
          '-k',
          '-C',
          '/dev/null',
          '-R',
          '-h',
          '-u',
          'root',
          '-i',
          'lo',
          '-i',
          'eth0',
          `--pid-file=${pid}`,
        ],
        ...more,
      ]);
    start(upstream, join(folder, 'upstream.pid'), '--address=/db.corp.example/192.0.2.77');
    start(host, pidFile, `--servers-file=${serversFile}`, '--address=/here.example/192.0.2.5');
    const dnsmasq = new DnsmasqNameServers({ serversFile, pidFile });
    await until(t.signal, async () => (await dnsmasq.probe()).kind === 'usable');
    const answer = (name: string) => host.run('busybox', 'nslookup', '-type=a', name, '127.0.0.1').catch(String);
    await until(t.signal, async () => /192\.0\.2\.5/.test(await answer('here.example')));
    assert.doesNotMatch(await answer('db.corp.example'), /192\.0\.2\.77/);
    const notes = await dnsmasq.apply('wg0', { servers: [upstream.address], domains: ['corp.example'] });
    assert.deepEqual(notes, ['dnsmasq searches no domains: corp.example is only asked for there']);
    await until(t.signal, async () => /192\.0\.2\.77/.test(await answer('db.corp.example')));
    assert.match(await answer('here.example'), /192\.0\.2\.5/);
    await dnsmasq.remove('wg0');
    await until(t.signal, async () => !/192\.0\.2\.77/.test(await answer('db.corp.example')));
  });
});

describe('dnsmasq, its file', () => {
  const failsWith = (message: RegExp) => (error: unknown) =>
    error instanceof LonglineError && message.test(error.message);

  it('has a part for each interface, and belongs to nobody else', async (t) => {
    const { serversFile, pidFile } = await place(t);
    const dnsmasq = new DnsmasqNameServers({ serversFile, pidFile });
    const both = { servers: ['10.0.0.1', 'fd00::1'], domains: ['~corp.example', '~.'] };
    // The file is written before anybody is told, and told again by the next try.
    await assert.rejects(dnsmasq.apply('wg0', both), failsWith(/pid: ENOENT/));
    await assert.rejects(dnsmasq.apply('wg1', { servers: ['10.1.0.1'], domains: [] }), failsWith(/pid/));
    assert.equal(
      await readFile(serversFile, 'utf8'),
      `# Written by Longline, which owns this file.
# interface wg0
server=/corp.example/10.0.0.1
server=/corp.example/fd00::1
server=10.0.0.1
server=fd00::1
# interface wg1
server=10.1.0.1
`,
    );
    await dnsmasq.remove('wg0');
    await dnsmasq.remove('wg1');
    assert.equal(await readFile(serversFile, 'utf8'), '# Written by Longline, which owns this file.\n');
    await writeFile(serversFile, 'server=9.9.9.9\n');
    await assert.rejects(dnsmasq.apply('wg0', both), failsWith(/somebody else's/));
    assert.equal(await readFile(serversFile, 'utf8'), 'server=9.9.9.9\n');
  });

  it('signals nothing but a dnsmasq', async (t) => {
    const { serversFile, pidFile } = await place(t);
    await writeFile(pidFile, `${process.pid}\n`);
    const dnsmasq = new DnsmasqNameServers({ serversFile, pidFile });
    assert.deepEqual(await dnsmasq.probe(), { kind: 'missing', why: `${pidFile} names no dnsmasq that runs` });
  });
});
