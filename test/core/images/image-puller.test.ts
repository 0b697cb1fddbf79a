import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { DEFAULT_JOBS_SETTINGS } from '../../../src/capabilities/jobs/config.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import type { RegistryCredentials } from '../../../src/core/images/image.ts';
import { ImagePuller, PullFailed, type PullReport } from '../../../src/core/images/image-puller.ts';
import { until } from '../../capabilities/jobs/jobs-fixture.ts';
import { FakeEngine, type FakePull } from '../../fixtures/fake-engine.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';

const forever = new AbortController().signal;
const ignore = () => undefined;

function puller(pull: FakePull, account?: RegistryCredentials, speed = 1000) {
  const engine = new FakeEngine({ pulls: { 'a:1': pull }, program: () => undefined });
  const credentials = { forImage: async () => account };
  const clock = fastClock(speed);
  return { engine, images: new ImagePuller({ engine, credentials, clock, settings: DEFAULT_JOBS_SETTINGS.pull }) };
}

function pulls(engine: FakeEngine): number {
  return engine.calls.filter((call) => call === 'pullImage a:1').length;
}

suite('the puller', () => {
  test('pulls once for many waiters and tells each of them how far it is', async () => {
    const gate = Promise.withResolvers<void>();
    const { engine, images } = puller({ sizeBytes: 100, layers: 2, beforeLayer: () => gate.promise });
    const reports: PullReport[][] = [[], [], []];
    const waits = reports.map((list) => images.ensure('a:1', 'if_missing', (report) => list.push(report), forever));
    await until(() => reports.every((list) => list.length >= 2), 'all to hear of the pull');
    gate.resolve();
    const facts = await Promise.all(waits);
    assert.equal(new Set(facts.map((image) => image.id)).size, 1);
    assert.equal(pulls(engine), 1);
    for (const list of reports)
      assert.deepEqual(list.at(-1), { attempt: 1, layersTotal: 2, layersDone: 2, bytesTotal: 100, bytesDone: 100 });
    await images.ensure('a:1', 'if_missing', () => assert.fail('it should not wait'), forever);
    await images.ensure('a:1', 'always', ignore, forever);
    assert.equal(pulls(engine), 2);
  });

  test('goes on while one waiter is left, and gives up with the last', async () => {
    const aborted = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const { engine, images } = puller({ sizeBytes: 1, layers: 1, beforeLayer: () => gate.promise });
    const original = engine.pullImage.bind(engine);
    engine.pullImage = (reference, account, signal) => {
      signal!.addEventListener('abort', () => aborted.resolve());
      return original(reference, account, signal);
    };
    const [one, two] = [new AbortController(), new AbortController()];
    const first = images.ensure('a:1', 'if_missing', ignore, one.signal);
    const second = images.ensure('a:1', 'if_missing', ignore, two.signal);
    await until(() => pulls(engine) === 1, 'the pull');
    one.abort(new LonglineError('cancelled', 'first left'));
    await assert.rejects(first, { message: 'first left' });
    const third = images.ensure('a:1', 'if_missing', ignore, forever);
    two.abort(new LonglineError('cancelled', 'second left'));
    await assert.rejects(second, { message: 'second left' });
    gate.resolve();
    await third;
    assert.equal(pulls(engine), 1);
    const last = new AbortController();
    const fourth = images.ensure('a:1', 'always', ignore, last.signal);
    last.abort(new LonglineError('cancelled', 'last left'));
    await assert.rejects(fourth, { message: 'last left' });
    await aborted.promise;
    await images.ensure('a:1', 'always', ignore, forever);
  });

  test('tries again what may pass, so many times, and nothing else', async () => {
    const passing = puller({ sizeBytes: 1, layers: 1 });
    const away = new LonglineError('unavailable', 'registry away');
    passing.engine.failNext('pullImage', away);
    passing.engine.failNext('pullImage', away);
    const attempts: number[] = [];
    await passing.images.ensure('a:1', 'if_missing', (report) => attempts.push(report.attempt), forever);
    assert.deepEqual([...new Set(attempts)], [1, 2, 3]);
    const lasting = puller({ sizeBytes: 1, layers: 1, failure: away });
    await assert.rejects(
      lasting.images.ensure('a:1', 'if_missing', ignore, forever),
      (error) => error instanceof PullFailed && error.error === away,
    );
    assert.equal(pulls(lasting.engine), 4);
    const refused = puller({ sizeBytes: 1, layers: 1, credentials: { username: 'u', password: 'p' } });
    await assert.rejects(
      refused.images.ensure('a:1', 'if_missing', ignore, forever),
      (error) => error instanceof PullFailed && error.error.reason === 'identity',
    );
    assert.equal(pulls(refused.engine), 1);
    const known = puller(
      { sizeBytes: 1, layers: 1, credentials: { username: 'u', password: 'p' } },
      { username: 'u', password: 'p' },
    );
    await known.images.ensure('a:1', 'if_missing', ignore, forever);
  });

  test('ends a pull that takes too long', async () => {
    const { images } = puller(
      { sizeBytes: 1, layers: 1, beforeLayer: () => new Promise(() => undefined) },
      undefined,
      20_000,
    );
    await assert.rejects(
      images.ensure('a:1', 'if_missing', ignore, forever),
      (error) => error instanceof PullFailed && error.error.reason === 'late',
    );
  });
});
