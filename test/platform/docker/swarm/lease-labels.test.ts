// Names and labels of the lock service, whatever agents are called and whoever wrote the labels; and engines that are none of
// Docker's.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../../../src/core/errors.ts';
import { holdOf, labelsOf, lockServiceName } from '../../../../src/platform/docker/swarm/lease-labels.ts';
import { LeaseService } from '../../../../src/platform/docker/swarm/lease-service.ts';
import { scratchFolder } from '../../../link/scratch.ts';

const never = new AbortController().signal;
const agentId = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);

test('every agent id makes a name that Swarm takes, and no two the same', () => {
  assert.equal(lockServiceName('host-1'), 'longline-leader-host-1');
  assert.match(lockServiceName('host-1.example.org'), /^longline-leader-host-1-example-org-[0-9a-f]{12}$/);
  fc.assert(
    fc.property(agentId, agentId, (one, other) => {
      const name = lockServiceName(one);
      // As swarmkit has it.
      assert.match(name, /^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$/);
      assert.ok(name.length <= 63, name);
      if (one !== other) assert.notEqual(name, lockServiceName(other));
    }),
  );
});

test('a hold comes back from its labels as it was', () => {
  fc.assert(
    fc.property(
      agentId,
      fc.record({
        holder: fc.oneof(fc.constant(''), fc.constant('host-1/23/6dd7-4')),
        epoch: fc.bigInt({ min: 0n, max: 10n ** 18n - 1n }),
        ttlMs: fc.integer({ min: 1000, max: 600_000 }),
      }),
      (agent, record) => {
        assert.deepEqual(holdOf('it', agent, { ...labelsOf(agent, record), other: 'x' }), { ...record });
      },
    ),
  );
});

test('labels that anybody wrote are a hold of this agent, or an error that names what is wrong', () => {
  const key = fc.constantFrom(...Object.keys(labelsOf('a', { holder: '', epoch: 1n, ttlMs: 1000 })), 'other');
  fc.assert(
    fc.property(fc.dictionary(key, fc.oneof(fc.string(), fc.constantFrom('a', '1', '60000'))), (labels) => {
      try {
        const { epoch, ttlMs } = holdOf('Swarm service it', 'a', labels);
        assert.ok(epoch >= 0n && ttlMs >= 1 && ttlMs <= 600_000);
      } catch (error) {
        assert.ok(error instanceof LonglineError, String(error));
        assert.match(error.message, /^Swarm service it.*(longline\.leader|another name)/s);
      }
    }),
  );
});

/** An engine that answers each question but that for its version with the same. */
async function engine(version: object, answer: string) {
  const server = createServer((request, response) => {
    response.end(request.url?.includes('/version') ? JSON.stringify(version) : answer);
  });
  const folder = await scratchFolder();
  const socketPath = join(folder.path, 's');
  await new Promise<void>((done) => void server.listen(socketPath, done));
  return {
    address: { kind: 'unix' as const, socketPath },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((done) => void server.close(done));
      await folder[Symbol.asyncDispose]();
    },
  };
}

const DOCKER = { Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12' };

test('Podman has no swarm: it is refused by name', async () => {
  await using podman = await engine({ ...DOCKER, Components: [{ Name: 'Podman Engine' }] }, '{}');
  await using store = new LeaseService({ address: podman.address, agentId: 'a' });
  await assert.rejects(store.read(never), { reason: 'unsupported', message: /needs Docker; .* is Podman/ });
});

test('an answer that is no service is an error, not a service that is not there', async () => {
  for (const answer of ['{}', '[]', '', 'null', '{"ID":"x","Version":{"Index":1}}', '{"ID":1', '"gone"', '"outrun"']) {
    await using odd = await engine(DOCKER, answer);
    await using store = new LeaseService({ address: odd.address, agentId: 'a' });
    await assert.rejects(store.read(never), { reason: 'unavailable', message: /no usable answer/ }, answer);
  }
});
