import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { describe, it } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { OpenTunnelSchema } from '#gen/longline/link/v1/link_pb.js';
import { SessionTargets } from '../../../src/agent/tunnels/session-targets.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import type { SessionFacts, SessionVisit } from '../../../src/core/session-access.ts';
import { TunnelEnd } from '../../../src/core/tunnel/tunnel-end.ts';

function make(replacedBy?: SessionFacts) {
  const seen: string[] = [];
  let left = 0;
  let forbidden: number | undefined;
  let facts = { image: 'desktop:1', user: '' };
  const visit: SessionVisit = {
    endpoint: { containerId: 'c', addresses: ['127.0.0.1'], pid: undefined, ports: [1] },
    woken: false,
    touch: () => undefined,
    execute: async () => {
      throw new LonglineError('not_found', 'no such program');
    },
    attachMain: async () => {
      throw new LonglineError('wrong_state', 'it ended');
    },
    [Symbol.dispose]: () => {
      left += 1;
    },
  };
  const targets = new SessionTargets({
    access: {
      facts: () => facts,
      visit: async (id) => {
        seen.push(`visit ${id}`);
        facts = replacedBy ?? facts;
        return visit;
      },
    },
    judge: {
      admit: async ({ port }) => {
        seen.push('admit');
        return () => {
          if (forbidden === port) throw new LonglineError('policy', 'no longer');
        };
      },
      ended: (_ask, outcome) => void seen.push(`ended ${outcome}`),
    },
    log: silentLogger,
  });
  const reach = async (init: MessageInitShape<typeof OpenTunnelSchema>, signal = new AbortController().signal) =>
    await targets.reach(create(OpenTunnelSchema, { sessionId: 'desk', ...init }), signal);
  const forbid = (port: number) => {
    forbidden = port;
    targets.recheck();
  };
  return { reach, seen, left: () => left, forbid };
}

async function echoServer(owner: AsyncDisposableStack): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  owner.defer(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** An end whose other side says nothing. */
function tunnelEnd(): TunnelEnd {
  return new TunnelEnd(async () => undefined);
}

const exec = (argv: string[]) => ({ process: { case: 'exec' as const, value: { argv } } });

describe('targets of tunnels', () => {
  it('are checked here again, whatever the controller let through, before anybody is asked', async () => {
    const { reach, seen } = make();
    for (const [init, field] of [
      [{ port: 0 }, 'port'],
      [{ port: 70_000 }, 'port'],
      [{ port: 1, sessionId: '../x' }, 'session_id'],
      [{ port: 1, ...exec(['sh']) }, 'port'],
      [exec([]), 'exec.argv'],
      [exec(['a\0b']), 'exec.argv'],
      [{ process: { case: 'attach' as const, value: { size: { rows: 0, columns: 1 } } } }, 'size'],
    ] as const) {
      await assert.rejects(reach(init as never), (error: LonglineError) => {
        assert.deepEqual([error.reason, error.violations[0]?.field], ['invalid', field]);
        return true;
      });
    }
    assert.deepEqual(seen, []);
  });

  it('that fail leave the session, and are on record', async () => {
    const { reach, seen, left } = make();
    await assert.rejects(reach(exec(['nothing'])), /no such program/);
    await assert.rejects(reach({ process: { case: 'attach', value: {} } }), /it ended/);
    await assert.rejects(reach({ port: 1 }), (error: LonglineError) => {
      assert.match(error.message, /127\.0\.0\.1:1 refused \(ECONNREFUSED\); no such program/);
      return error.reason === 'unavailable';
    });
    assert.equal(left(), 3);
    assert.deepEqual(
      seen.filter((one) => one.startsWith('ended')),
      ['ended not_found', 'ended wrong_state', 'ended unavailable'],
    );
  });

  it('are given up when the caller leaves meanwhile', async () => {
    const { reach, left } = make();
    const gone = new AbortController();
    gone.abort(new LonglineError('cancelled', 'the link went'));
    await assert.rejects(reach({ port: 1 }, gone.signal), /the link went/);
    assert.equal(left(), 1);
  });

  it('are left while they are open once the rules forbid them, and others go on', async () => {
    await using servers = new AsyncDisposableStack();
    const [first, second] = await Promise.all([echoServer(servers), echoServer(servers)]);
    const { reach, seen, forbid } = make();
    const [refused, kept] = [await reach({ port: first }), await reach({ port: second })];
    const runs = [refused.run(tunnelEnd()), kept.run(tunnelEnd())];
    let over = false;
    const ended = runs[1]!.then(
      () => {
        over = true;
      },
      () => {
        over = true;
      },
    );
    forbid(first);
    await assert.rejects(runs[0]!, { reason: 'policy', message: 'no longer' });
    await refused[Symbol.asyncDispose]();
    assert.equal(seen.at(-1), 'ended policy');
    assert.equal(over, false);
    await kept[Symbol.asyncDispose]();
    await ended;
    assert.equal(seen.at(-1), 'ended succeeded');
  });

  it('are not reached in a session that took the place of the one that was judged', async () => {
    const { reach, left, seen } = make({ image: 'other:1', user: '' });
    await assert.rejects(reach(exec(['id'])), { reason: 'wrong_state', message: /was replaced by another/ });
    assert.deepEqual([left(), seen.at(-1)], [1, 'ended wrong_state']);
  });
});
