import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import { FetchArtifactResponseSchema } from '#gen/longline/link/v1/link_pb.js';
import { LonglineError } from '../../src/core/errors.ts';
import { AgentSide } from './agent-side.ts';
import { makePki } from './certificates.ts';
import { type FetchCall, TestController } from './controller-double.ts';
import { scratchFolder, until } from './scratch.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const PIECE = 64 * 1024;
const ARTIFACT = randomBytes(5 * PIECE + 17);

/** Sends pieces from the offset that was asked for; at most `most` of them. */
function send(call: FetchCall, most = Number.POSITIVE_INFINITY): void {
  let at = Number(call.request.offset);
  for (let sent = 0; at < ARTIFACT.length && sent < most; sent += 1) {
    const data = ARTIFACT.subarray(at, at + PIECE);
    call.write(create(FetchArtifactResponseSchema, { size: BigInt(ARTIFACT.length), data }));
    at += data.length;
  }
}

async function fetched(agent: AgentSide, offset = 0, signal = new AbortController().signal): Promise<Buffer> {
  const bytes = Buffer.alloc(ARTIFACT.length);
  let at = offset;
  for await (const piece of agent.link.fetchArtifact(DIGEST, offset, signal)) {
    assert.equal(piece.size, ARTIFACT.length);
    assert.equal(piece.offset, at, 'pieces come in order and without holes');
    bytes.set(piece.data, piece.offset);
    at += piece.data.length;
  }
  assert.equal(at, ARTIFACT.length);
  return bytes.subarray(offset);
}

function failsWith(reason: LonglineError['reason'], message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof LonglineError, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, message);
    return true;
  };
}

describe('artifacts over the link', () => {
  it('come over mTLS, whole and from an offset', async () => {
    const pki = await makePki();
    await using folder = await scratchFolder();
    await using controller = await TestController.start({ identity: pki.server, authority: pki.authority });
    controller.onFetch = (call) => {
      send(call);
      call.end();
    };
    await using agent = await AgentSide.open(folder.path, () => controller.port, { pki });
    await agent.start();
    assert.ok((await fetched(agent)).equals(ARTIFACT));
    assert.ok((await fetched(agent, PIECE + 5)).equals(ARTIFACT.subarray(PIECE + 5)));
  });

  it('wait for a connection, and are given up when none comes in time', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    controller.onFetch = (call) => {
      send(call);
      call.end();
    };
    {
      await using hasty = await AgentSide.open(folder.path, () => controller.port, { limits: { artifactWaitMs: 200 } });
      await assert.rejects(fetched(hasty), failsWith('unavailable', /no connection to the controller for 200 ms/));
    }
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    const waiting = fetched(agent);
    await agent.start();
    assert.ok((await waiting).equals(ARTIFACT));
  });

  it('go on where they were after each cut, over the next connection', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const offsets: bigint[] = [];
    controller.onFetch = (call) => {
      offsets.push(call.request.offset);
      send(call, 1);
      if (Number(call.request.offset) + PIECE >= ARTIFACT.length) call.end();
    };
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    const parts: Buffer[] = [];
    let cuts = 0;
    for await (const { data } of agent.link.fetchArtifact(DIGEST, 0, new AbortController().signal)) {
      parts.push(Buffer.from(data));
      if (offsets.length < 6) {
        cuts += 1;
        await controller.restart();
      }
    }
    assert.ok(Buffer.concat(parts).equals(ARTIFACT));
    assert.equal(cuts, 5);
    assert.deepEqual(
      offsets.map(Number),
      [0, 1, 2, 3, 4, 5].map((count) => count * PIECE),
    );
  });

  it('are not asked for again where the controller has not got them, or does not let this agent have them', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    let asked = 0;
    let code = status.NOT_FOUND;
    controller.onFetch = (call) => {
      asked += 1;
      call.emit('error', { code, details: 'not for you' });
    };
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await assert.rejects(fetched(agent), failsWith('not_found', /not for you/));
    code = status.PERMISSION_DENIED;
    await assert.rejects(fetched(agent), failsWith('policy', /not for you/));
    assert.equal(asked, 2);
  });

  it('are given up when a controller sends nothing, or ends early again and again', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    let asked = 0;
    controller.onFetch = () => {
      asked += 1;
    };
    {
      await using hasty = await AgentSide.open(folder.path, () => controller.port, { limits: { artifactStallMs: 50 } });
      await hasty.start();
      await assert.rejects(fetched(hasty), failsWith('late', /sent nothing of artifact sha256:a+ for 50 ms/));
      // A call may have been given up before it came here.
      assert.ok(asked >= 1 && asked <= 4, `asked ${asked} times`);
    }
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    controller.onFetch = (call) => {
      send(call, call.request.offset === 0n ? 1 : 0);
      call.end();
    };
    await assert.rejects(fetched(agent), failsWith('unavailable', /ended artifact sha256:a+ after 65536 bytes/));
  });

  it('end with the signal, and leave no call behind', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const calls: FetchCall[] = [];
    controller.onFetch = (call) => {
      calls.push(call);
      send(call, 1);
    };
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    const stop = new AbortController();
    const fetching = fetched(agent, 0, stop.signal);
    await until('it is under way', () => calls.length === 1);
    stop.abort(new LonglineError('cancelled', 'no longer wanted'));
    await assert.rejects(fetching, failsWith('cancelled', /no longer wanted/));
    await until('the call is over', () => calls[0]!.cancelled);
    for await (const _ of agent.link.fetchArtifact(DIGEST, 0, new AbortController().signal)) break;
    await until('the call that was left is over', () => calls[1]!.cancelled);
  });
});
