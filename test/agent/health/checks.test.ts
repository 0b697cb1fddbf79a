import assert from 'node:assert/strict';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { describe, it } from 'node:test';
import { capabilityChecks } from '../../../src/agent/health/capability-checks.ts';
import type { Check } from '../../../src/agent/health/check.ts';
import { dataFolderCheck, eventLoopCheck, tasksCheck, writeCheck } from '../../../src/agent/health/host-checks.ts';
import { certificateCheck, linkCheck } from '../../../src/agent/health/link-checks.ts';
import { LoopPulse } from '../../../src/agent/health/loop-pulse.ts';
import type { Availability, Capability, CapabilityHealth } from '../../../src/core/capability.ts';
import { Progress } from '../../../src/core/progress.ts';
import type { LinkState } from '../../../src/link/link-state.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';

const HOUR = 3_600_000;

async function assertFinding(check: Check, state: string, reason: RegExp, mend = /./): Promise<void> {
  const found = await check.look();
  assert.equal(found.state, state, found.reason);
  assert.match(found.reason, reason);
  if (state === 'ok') assert.equal(found.mend, '');
  else assert.match(found.mend, mend);
}

describe('checks of the process', () => {
  it('sees how long the event loop stands still, while it does and after', async () => {
    let nowMs = 0;
    using pulse = new LoopPulse(() => nowMs);
    const check = eventLoopCheck(pulse);
    await assertFinding(check, 'ok', /0\.0 s at once/);
    // Nothing has turned since: the next beat was due at 1 s.
    nowMs = 3_500;
    await assertFinding(check, 'degraded', /stood still for 2\.5 s/, /processor/);
    nowMs = 40_000;
    await assertFinding(check, 'failed', /39\.0 s in all/);
  });

  it('remembers a minute of a real loop that was blocked', async () => {
    using pulse = new LoopPulse(() => performance.now());
    const endMs = performance.now() + 2_300;
    while (performance.now() < endMs);
    // The turn after which the late beat was counted.
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    assert.ok(pulse.late().worstMs > 1_000, `${pulse.late().worstMs}`);
  });

  it('finds a task that does not get on, and none that waits for something', async () => {
    const clock = new ManualClock();
    const task = new Progress('link', clock);
    const check = tasksCheck(() => [new Progress('other', clock), task]);
    await assertFinding(check, 'ok', /all get on/);
    task.expect(10_000, 'a heartbeat');
    clock.advance(10_000);
    await assertFinding(check, 'ok', /all get on/);
    clock.advance(2_000);
    await assertFinding(check, 'failed', /link: a heartbeat is late by 2\.0 s/, /restart/);
    task.rest();
    await assertFinding(check, 'ok', /all get on/);
  });

  it('looks at the disk of the data folder as admission does', async () => {
    const { bavail, bsize } = await statfs(tmpdir());
    const freeBytes = bavail * bsize;
    await assertFinding(dataFolderCheck(tmpdir(), 0), 'ok', /MiB are free in/);
    await assertFinding(dataFolderCheck(tmpdir(), Math.floor(freeBytes * 0.7)), 'degraded', /no new commands/);
    await assertFinding(dataFolderCheck(tmpdir(), freeBytes * 2), 'failed', /new commands need/, /spool\.min_free/);
    await assert.rejects(async () => await dataFolderCheck('/nowhere/at/all', 0).look(), { code: 'ENOENT' });
  });

  it('tells of writes that fail until one succeeds', async () => {
    let failure: string | undefined = 'no room (ENOSPC)';
    await assertFinding(
      writeCheck('journal', () => failure, 'failed'),
      'failed',
      /ENOSPC/,
      /disk space/,
    );
    await assertFinding(
      writeCheck('spool', () => failure, 'degraded'),
      'degraded',
      /ENOSPC/,
    );
    failure = undefined;
    await assertFinding(
      writeCheck('journal', () => failure, 'failed'),
      'ok',
      /succeeded/,
    );
  });
});

describe('checks of the way to the controller', () => {
  it('takes a link that is away for a while for normal, and for longer for degraded, never for failed', async () => {
    let now: { state: LinkState; awayMs: number | undefined } = {
      state: { kind: 'backing_off', reason: 'ECONNREFUSED', untilMs: 0 },
      awayMs: 60_000,
    };
    const check = linkCheck(() => now, 300_000);
    await assertFinding(check, 'ok', /not open for 1m: ECONNREFUSED/);
    now = { ...now, awayMs: 400 * HOUR };
    await assertFinding(check, 'degraded', /16d16h: ECONNREFUSED/, /longline doctor/);
    now = { state: { kind: 'open', controllerId: 'c', sinceMs: 0 }, awayMs: undefined };
    await assertFinding(check, 'ok', /^open$/);
  });

  it('tells of a certificate that was not renewed in time, and of one that lapsed', async () => {
    let nowMs = 0;
    const check = certificateCheck(
      () => ({ obtainedAtMs: 0, expiresAtMs: 24 * HOUR }),
      () => nowMs,
    );
    nowMs = 17 * HOUR;
    await assertFinding(check, 'ok', /in 7h/);
    nowMs = 21 * HOUR;
    await assertFinding(check, 'degraded', /could not be renewed/, /renewal fails/);
    nowMs = 24 * HOUR;
    await assertFinding(check, 'failed', /lapsed at 1970-01-02T00:00:00/, /enrol/);
    const none = certificateCheck(
      () => undefined,
      () => 0,
    );
    await assertFinding(none, 'ok', /none is used/);
  });
});

describe('checks of capabilities', () => {
  const AVAILABLE: Availability = { available: true, limits: {}, attributes: {} };
  const checkOf = (health: CapabilityHealth | undefined, availability: Availability | undefined) => {
    const capability = { name: 'jobs', ...(health && { health: async () => health }) } as unknown as Capability;
    return capabilityChecks([capability], () => new Map(availability && [['jobs', availability]]))[0]!;
  };

  it('is degraded where the host has no such thing, and failed where it has and that does not work', async () => {
    await assertFinding(checkOf(undefined, undefined), 'degraded', /not opened yet/);
    const unavailable: Availability = { available: false, reason: 'no engine', mend: 'start docker' };
    await assertFinding(checkOf(undefined, unavailable), 'degraded', /unavailable: no engine/, /start docker/);
    await assertFinding(checkOf({ ok: true, detail: 'docker 20' }, AVAILABLE), 'ok', /docker 20/);
    const dead = { ok: false, detail: 'connect ENOENT', mend: 'docker info' };
    await assertFinding(checkOf(dead, AVAILABLE), 'failed', /ENOENT/, /docker info/);
    await assertFinding(checkOf({ ...dead, works: true }, AVAILABLE), 'degraded', /ENOENT/);
    await assertFinding(checkOf(undefined, AVAILABLE), 'ok', /available/);
  });
});
