import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import {
  type OpenTunnel,
  type TunnelRequest,
  type TunnelResponse,
  TunnelResponseSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { LonglineError } from '../../src/core/errors.ts';
import type { TunnelStream } from '../../src/core/tunnel/tunnel-frame.ts';
import type { TunnelTarget, TunnelTargets } from '../../src/link/ports.ts';
import { wireTime } from '../../src/link/wire.ts';
import { AgentSide } from './agent-side.ts';
import { TestController, type TunnelCall } from './controller-double.ts';
import { scratchFolder, until } from './scratch.ts';

/** What `look` gives once it gives something. */
async function found<T>(what: string, look: () => T | undefined): Promise<T> {
  let value: T | undefined;
  await until(`${what} is there`, () => {
    value = look();
    return value !== undefined;
  });
  return value as T;
}

/** Sends back what comes, then ends; or does what the test says. */
class EchoTargets implements TunnelTargets {
  readonly asked: OpenTunnel[] = [];
  readonly endings: unknown[] = [];
  open = 0;
  run: (tunnel: TunnelStream) => Promise<void> = async (tunnel) => {
    for await (const piece of tunnel.pieces()) if (piece.kind === 'data') await tunnel.write(piece.data);
    await tunnel.end();
  };

  async reach(ask: OpenTunnel): Promise<TunnelTarget> {
    this.asked.push(ask);
    if (ask.port === 1) throw new LonglineError('policy', 'port 1 is not offered');
    this.open += 1;
    return {
      woken: ask.wake,
      run: async (tunnel) => {
        await this.run(tunnel).catch((error: unknown) => {
          this.endings.push(error);
          throw error;
        });
        this.endings.push(undefined);
      },
      [Symbol.asyncDispose]: async () => {
        this.open -= 1;
      },
    };
  }
}

type Message = TunnelRequest['message'];

/** What an agent sent over one tunnel, and a way to answer. */
class Peer {
  readonly messages: Message[] = [];
  ended = false;
  readonly #call: TunnelCall;

  constructor(call: TunnelCall) {
    this.#call = call;
    call.on('data', ({ message }: TunnelRequest) => this.messages.push(message));
    for (const event of ['end', 'cancelled', 'error']) {
      call.on(event, () => {
        this.ended = true;
      });
    }
  }

  get data(): string {
    return Buffer.concat(this.messages.flatMap((one) => (one.case === 'data' ? [one.value] : []))).toString();
  }

  of<K extends NonNullable<Message['case']>>(kind: K): Extract<Message, { case: K }>['value'] | undefined {
    return this.messages.find((message) => message.case === kind)?.value as never;
  }

  say(message: TunnelResponse['message']): void {
    this.#call.write(
      create(TunnelResponseSchema, { message } as Parameters<typeof create<typeof TunnelResponseSchema>>[1]),
    );
  }

  write(text: string): void {
    this.say({ case: 'data', value: Buffer.from(text) });
  }

  halfClose(): void {
    this.say({ case: 'halfClose', value: {} } as TunnelResponse['message']);
  }

  end(): void {
    this.#call.end();
  }
}

describe('tunnels of the link', () => {
  let scratch: Awaited<ReturnType<typeof scratchFolder>>;
  let controller: TestController;
  let agent: AgentSide;
  let targets: EchoTargets;
  beforeEach(async () => {
    scratch = await scratchFolder();
    controller = await TestController.start();
    targets = new EchoTargets();
    agent = await AgentSide.open(scratch.path, () => controller.port, { tunnelTargets: targets });
    await agent.start();
    await until('the link', () => controller.open.length === 1);
  });
  afterEach(async () => {
    await agent[Symbol.asyncDispose]();
    await controller[Symbol.asyncDispose]();
    await scratch[Symbol.asyncDispose]();
  });

  async function open(tunnelId: string, change: Partial<{ port: number; expiresInMs: number; wake: boolean }> = {}) {
    const before = controller.tunnels.length;
    const { port = 5901, expiresInMs = 60_000, wake = false } = change;
    const expireTime = wireTime(Date.now() + expiresInMs);
    controller.send({ case: 'openTunnel', value: { tunnelId, sessionId: 'desk', port, expireTime, wake } });
    const peer = new Peer(await found('the tunnel', () => controller.tunnels[before]));
    await until('its first message', () => peer.messages.length > 0);
    assert.equal(peer.of('open')?.tunnelId, tunnelId);
    return peer;
  }

  it('brings bytes both ways and ends each direction by itself', async () => {
    const peer = await open('t1', { wake: true });
    assert.equal(peer.of('open')?.woken, true);
    peer.write('hello ');
    await until('the echo', () => peer.data === 'hello ');
    peer.write('world');
    peer.halfClose();
    await found('the half-close', () => peer.of('halfClose'));
    assert.equal(peer.data, 'hello world');
    await until('the end', () => peer.ended);
    peer.end();
    await until('the target', () => targets.open === 0);
    assert.deepEqual(targets.endings, [undefined]);
  });

  it('says why something is not reached', async () => {
    const refused = await open('t1', { port: 1 });
    assert.equal(refused.of('open')?.error?.reason, ErrorReason.POLICY);
    assert.match(refused.of('open')!.error!.message, /port 1 is not offered/);
    const late = await open('t2', { expiresInMs: -1 });
    assert.equal(late.of('open')?.error?.reason, ErrorReason.LATE);
    assert.equal(targets.asked.length, 1);
  });

  it('says why an open tunnel can not go on', async () => {
    targets.run = async () => {
      throw new LonglineError('unavailable', 'the port reset its connection');
    };
    const peer = await open('t1');
    const failed = await found('the failure', () => peer.of('failed'));
    assert.match(failed.message, /the port reset/);
    peer.end();
    await until('the target', () => targets.open === 0);
  });

  it('ends a tunnel whose controller sends more than the window', async () => {
    targets.run = async (tunnel) => {
      await tunnel.write(Buffer.alloc(1024 * 1024));
    };
    const peer = await open('t1');
    for (let piece = 0; piece < 5; piece++) peer.say({ case: 'data', value: Buffer.alloc(65_536) });
    const failed = await found('the failure', () => peer.of('failed'));
    assert.match(failed.message, /more than the window of 262144 bytes/);
    peer.end();
  });

  it('ends tunnels with a reason when the connection is lost', async () => {
    const peer = await open('t1');
    peer.write('x');
    await until('the echo', () => peer.data === 'x');
    controller.stop();
    await until('the end', () => targets.endings.length === 1);
    assert.ok(targets.endings[0] instanceof LonglineError);
    assert.match(String(targets.endings[0]), /unavailable|ended|UNAVAILABLE|cut/i);
    await until('the target', () => targets.open === 0);
  });

  it('keeps tunnels on the old connection while a drain lasts', async (context) => {
    // Agents spread their return over half of the window; this one comes at once.
    context.mock.method(Math, 'random', () => 0);
    const peer = await open('t1');
    const [old] = controller.open;
    controller.send({ case: 'drain', value: { window: { seconds: 30n, nanos: 0 }, reason: 'test' } });
    await until('another connection', () => controller.open.some((connection) => connection !== old));
    await until('the old one to be left', () => !controller.open.includes(old!));
    peer.write('still here');
    await until('the echo', () => peer.data === 'still here');
    peer.halfClose();
    peer.end();
    await until('the target', () => targets.open === 0);
  });

  it('serves 100 at once, each while others stand still', async () => {
    const peers = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const expireTime = wireTime(Date.now() + 60_000);
        controller.send({
          case: 'openTunnel',
          value: { tunnelId: `t${index}`, sessionId: 'desk', port: 5901, expireTime },
        });
        return new Peer(await found('a tunnel', () => controller.tunnels[index]));
      }),
    );
    for (const [index, peer] of peers.entries()) peer.write(`number ${index}`);
    await until('all echoes', () => peers.every((peer, index) => peer.data === `number ${index}`));
    assert.equal(targets.open, 100);
    for (const peer of peers) {
      peer.halfClose();
      peer.end();
    }
    await until('all targets', () => targets.open === 0);
  });
});
