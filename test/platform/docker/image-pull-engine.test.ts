// Pulls by real engines from a real registry on loopback.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { PullProgress } from '../../../src/capabilities/jobs/ports.ts';
import { LonglineError, type Reason } from '../../../src/core/errors.ts';
import { DockerEngine } from '../../../src/platform/docker/docker-engine.ts';
import { parseEngineAddress } from '../../../src/platform/docker/engine-address.ts';
import { dockerMissing, podmanMissing, startDocker, startPodman, type TestEngine } from '../../fixtures/engines.ts';
import { REGISTRY_USER, registryMissing, startRegistry, type TestRegistry } from '../../fixtures/registry.ts';

async function pull(source: AsyncIterable<PullProgress>): Promise<PullProgress[]> {
  const steps: PullProgress[] = [];
  for await (const step of source) steps.push(step);
  return steps;
}

function failsWith(work: Promise<unknown>, reason: Reason): Promise<void> {
  return assert.rejects(work, (error) => {
    assert.ok(error instanceof LonglineError);
    assert.equal(error.reason, reason, error.message);
    assert.ok(!error.message.includes(REGISTRY_USER.password));
    return true;
  });
}

function pullSuite(name: string, start: () => Promise<TestEngine>, missing: string | undefined): void {
  suite(`pull with ${name}`, { skip: missing ?? registryMissing() ?? false }, () => {
    const owned = new AsyncDisposableStack();
    let engine: DockerEngine;
    let open: TestRegistry;
    let locked: TestRegistry;
    before(async () => {
      const daemon = owned.use(await start());
      engine = owned.use(new DockerEngine(parseEngineAddress(daemon.host), { callLimitMs: 20_000 }));
      open = owned.use(await startRegistry());
      locked = owned.use(await startRegistry({ password: true }));
    });
    after(() => owned.disposeAsync());

    test('shows progress of all layers together, and finds the image by tag and digest', async () => {
      const digest = await open.publish('tools/three', '1', [3_000_000, 5_000_000]);
      const reference = `${open.host}/tools/three:1`;
      const steps = await pull(engine.pullImage(reference, undefined));
      const last = steps.at(-1)!;
      assert.equal(last.layersDone, last.layersTotal);
      assert.equal(last.bytesDone, last.bytesTotal);
      assert.ok(last.layersTotal >= 3, JSON.stringify(last));
      for (const [index, step] of steps.entries()) {
        assert.ok(step.bytesDone <= step.bytesTotal && step.layersDone <= step.layersTotal);
        if (index > 0) assert.ok(step.bytesDone >= steps[index - 1]!.bytesDone);
      }
      const image = (await engine.findImage(reference))!;
      assert.equal(image.pinned, `${open.host}/tools/three@${digest}`);
      assert.ok(image.sizeBytes > 8_000_000);
      assert.equal((await engine.findImage(image.pinned))?.id, image.id);
      await pull(engine.pullImage(reference, undefined));
    });

    test('pulls by digest', async () => {
      const digest = await open.publish('tools/pinned', '7');
      const reference = `${open.host}/tools/pinned@${digest}`;
      await pull(engine.pullImage(reference, undefined));
      assert.equal((await engine.findImage(reference))?.pinned, reference);
    });

    test('logs in with credentials, and says identity without or with wrong ones', async () => {
      await locked.publish('secret/tool', '1');
      const reference = `${locked.host}/secret/tool:1`;
      await failsWith(pull(engine.pullImage(reference, undefined)), 'identity');
      await failsWith(pull(engine.pullImage(reference, { ...REGISTRY_USER, password: 'wrong' })), 'identity');
      assert.equal(await engine.findImage(reference), undefined);
      await pull(engine.pullImage(reference, REGISTRY_USER));
      assert.notEqual(await engine.findImage(reference), undefined);
    });

    test('says not_found for a missing tag and repository, unavailable for an absent registry', async () => {
      await open.publish('tools/one', '1');
      await failsWith(pull(engine.pullImage(`${open.host}/tools/one:absent`, undefined)), 'not_found');
      await failsWith(pull(engine.pullImage(`${open.host}/tools/absent:1`, undefined)), 'not_found');
      await failsWith(pull(engine.pullImage('127.0.0.1:1/tools/one:1', undefined)), 'unavailable');
      await failsWith(pull(engine.pullImage('Not An Image', undefined)), 'invalid');
    });

    test('ends with its signal', async () => {
      await open.publish('tools/cancelled', '1', [4_000_000]);
      const stop = new AbortController();
      stop.abort();
      await failsWith(pull(engine.pullImage(`${open.host}/tools/cancelled:1`, undefined, stop.signal)), 'cancelled');
    });
  });
}

pullSuite('Docker', startDocker, dockerMissing());
pullSuite('Podman', startPodman, podmanMissing());
