import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import { TunnelEnd } from '../../../src/core/tunnel/tunnel-end.ts';
import {
  TUNNEL_PIECE_BYTES,
  TUNNEL_WINDOW_BYTES,
  type TunnelFrame,
  type TunnelPiece,
} from '../../../src/core/tunnel/tunnel-frame.ts';
import { faultSeeds, seededRandom } from '../../fixtures/seeded-random.ts';

/** Lets everything that can go on do so. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
}

function pattern(size: number, from = 0): Buffer {
  return Buffer.from(Uint8Array.from({ length: size }, (_, index) => ((from + index) * 31) & 0xff));
}

async function collected(end: TunnelEnd): Promise<{ pieces: TunnelPiece[]; data: Buffer }> {
  const pieces: TunnelPiece[] = [];
  for await (const piece of end.pieces()) pieces.push(piece);
  const data = Buffer.concat(pieces.flatMap((piece) => (piece.kind === 'data' ? [piece.data] : [])));
  return { pieces, data };
}

/** Two ends whose frames wait until the test, or its random scheduler, lets them through. */
class Wire {
  readonly left: TunnelEnd;
  readonly right: TunnelEnd;
  readonly toRight: { frame: TunnelFrame; taken: () => void }[] = [];
  readonly toLeft: { frame: TunnelFrame; taken: () => void }[] = [];

  constructor() {
    const via = (queue: Wire['toLeft']) => (frame: TunnelFrame) =>
      new Promise<void>((taken) => queue.push({ frame, taken }));
    this.left = new TunnelEnd(via(this.toRight));
    this.right = new TunnelEnd(via(this.toLeft));
  }

  /** Delivers the next frame of one direction; false if there is none. */
  step(direction: 'right' | 'left'): boolean {
    const next = (direction === 'right' ? this.toRight : this.toLeft).shift();
    if (next === undefined) return false;
    next.taken();
    (direction === 'right' ? this.right : this.left).accept(next.frame);
    return true;
  }

  async run(): Promise<void> {
    for (let idle = 0; idle < 5; idle++) {
      await settle();
      while (this.step('right') || this.step('left')) idle = 0;
    }
  }
}

describe('a tunnel end', () => {
  it('sends no more than the window while the other side takes nothing, and holds no more', async () => {
    const wire = new Wire();
    const writing = wire.left.write(pattern(3 * TUNNEL_WINDOW_BYTES));
    await wire.run();
    assert.equal(wire.right.heldBytes, TUNNEL_WINDOW_BYTES);
    const reading = collected(wire.right);
    await wire.run();
    await writing;
    const ending = wire.left.end();
    await wire.run();
    await ending;
    assert.deepEqual((await reading).data, pattern(3 * TUNNEL_WINDOW_BYTES));
  });

  it('half-closes each direction by itself', async () => {
    const wire = new Wire();
    const reading = collected(wire.right);
    const ending = wire.left.end();
    await wire.run();
    await ending;
    assert.equal((await reading).data.length, 0);
    const answer = collected(wire.left);
    const answering = wire.right.write(pattern(10)).then(() => wire.right.end());
    await wire.run();
    await answering;
    assert.deepEqual((await answer).data, pattern(10));
    await assert.rejects(wire.left.write(pattern(1)), /was ended in this direction/);
  });

  it('keeps standard error and the exit code in order', async () => {
    const wire = new Wire();
    const saying = (async () => {
      await wire.left.write(pattern(3));
      await wire.left.write(pattern(2), 'stderr');
      await wire.left.say({ kind: 'exit', code: 7, signal: '' });
      await wire.left.end();
    })();
    await wire.run();
    await saying;
    const { pieces } = await collected(wire.right);
    assert.deepEqual(
      pieces.map((piece) => ('data' in piece ? `${piece.kind} ${piece.data.length}` : piece)),
      ['data 3', 'stderr 2', { kind: 'exit', code: 7, signal: '' }],
    );
  });

  it('lets sizes and signals past bytes that wait, and after their end; only the last of several sizes counts', async () => {
    const end = new TunnelEnd(async () => undefined);
    end.accept({ kind: 'data', data: pattern(10) });
    end.accept({ kind: 'half_close' });
    end.accept({ kind: 'resize', size: { columns: 80, rows: 24 } });
    end.accept({ kind: 'resize', size: { columns: 100, rows: 30 } });
    end.accept({ kind: 'signal', signal: 'SIGINT' });
    const seen: string[] = [];
    const reading = (async () => {
      for await (const one of end.controls()) seen.push(one.kind === 'resize' ? String(one.size.columns) : one.signal);
    })();
    await settle();
    assert.deepEqual(seen, ['100', 'SIGINT']);
    await end.end();
    await end.say({ kind: 'signal', signal: 'SIGTERM' });
    end.finished();
    await reading;
    assert.equal((await collected(end)).data.length, 10);
  });

  for (const [name, frames, message] of [
    [
      'bytes beyond the window',
      Array(5).fill({ kind: 'data', data: pattern(TUNNEL_PIECE_BYTES) }),
      /the window of 262144 bytes/,
    ],
    [
      'a frame that is too large',
      [{ kind: 'data', data: pattern(TUNNEL_PIECE_BYTES + 1) }],
      /at most 65536 are allowed/,
    ],
    [
      'bytes after the end',
      [{ kind: 'half_close' }, { kind: 'data', data: pattern(1) }],
      /after the end of its direction/,
    ],
    ['more taken than was sent', [{ kind: 'window', taken: 1 }], /0 to 0 are possible/],
    ['a number that is none', [{ kind: 'window', taken: Number.NaN }], /NaN bytes are said to be taken/],
    ['signals without end', Array(65).fill({ kind: 'signal', signal: 'SIGINT' }), /more than 64/],
  ] as [string, TunnelFrame[], RegExp][]) {
    it(`fails at ${name}`, async () => {
      const end = new TunnelEnd(async () => undefined);
      for (const frame of frames) end.accept(frame);
      assert.ok(end.failed.aborted);
      await assert.rejects(collected(end), message);
      await assert.rejects(end.write(pattern(1)), message);
    });
  }

  it('tells reader and waiting writer why it failed', async () => {
    const end = new TunnelEnd(async () => undefined);
    const writing = assert.rejects(end.write(pattern(TUNNEL_WINDOW_BYTES + 1)), /the link went/);
    const reading = assert.rejects(collected(end), /the link went/);
    await settle();
    end.fail(new LonglineError('unavailable', 'the link went'));
    await Promise.all([writing, reading]);
  });

  it('fails with its carrier', async () => {
    const end = new TunnelEnd(() => Promise.reject(new Error('EPIPE')));
    await assert.rejects(end.write(pattern(1)), /the tunnel was cut/);
    await assert.rejects(collected(end), /the tunnel was cut/);
  });

  it('lets the reader finish and the writer know when the carrier ends in order', async () => {
    const end = new TunnelEnd(async () => undefined);
    const writing = assert.rejects(end.write(pattern(TUNNEL_WINDOW_BYTES + 1)), /the other side ended the tunnel/);
    await settle();
    end.accept({ kind: 'data', data: pattern(4) });
    end.finished();
    await writing;
    assert.equal((await collected(end)).data.length, 4);
  });

  it('fails when its reader leaves', async () => {
    const end = new TunnelEnd(async () => undefined);
    end.accept({ kind: 'data', data: pattern(4) });
    for await (const _ of end.pieces()) break;
    assert.match(String(end.failed.reason), /reader of the tunnel left/);
  });
});

describe('a tunnel under random scheduling', () => {
  for (const seed of faultSeeds(25)) {
    it(`brings all bytes both ways, in order, within the window (seed ${seed})`, async () => {
      const random = seededRandom(seed);
      const wire = new Wire();
      const sizes = [Math.floor(random() * 8e5), Math.floor(random() * 8e5)] as const;
      const send = async (end: TunnelEnd, size: number) => {
        for (let at = 0; at < size; ) {
          const piece = Math.min(size - at, 1 + Math.floor(random() ** 3 * 200_000));
          await end.write(pattern(piece, at));
          at += piece;
          if (random() < 0.2) await settle();
        }
        await end.end();
      };
      let most = 0;
      const receive = async (end: TunnelEnd) => {
        const parts: Uint8Array[] = [];
        for await (const piece of end.pieces()) {
          if (piece.kind === 'data') parts.push(piece.data);
          if (random() < 0.1) await settle();
        }
        return Buffer.concat(parts);
      };
      let over = false;
      const all = Promise.all([
        send(wire.left, sizes[0]),
        send(wire.right, sizes[1]),
        receive(wire.right),
        receive(wire.left),
      ]).finally(() => {
        over = true;
      });
      while (!over) {
        const burst = Math.floor(random() * 6);
        for (let step = 0; step < burst; step++) wire.step(random() < 0.5 ? 'right' : 'left');
        most = Math.max(most, wire.left.heldBytes, wire.right.heldBytes);
        await new Promise(setImmediate);
      }
      const [, , atRight, atLeft] = await all;
      assert.ok(atRight.equals(pattern(sizes[0])) && atLeft.equals(pattern(sizes[1])));
      assert.ok(most <= TUNNEL_WINDOW_BYTES);
    });
  }
});
