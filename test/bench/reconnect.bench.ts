// What an agent sends when it comes back and nothing has changed: the bytes of its Hello, counted by a controller that does no
// more than greet. Plaintext on loopback with an API key, so that the messages can be counted as they are.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { timestampNow } from '@bufbuild/protobuf/wkt';
import {
  type handleBidiStreamingCall,
  Server,
  ServerCredentials,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  AgentLinkService,
  type AgentMessage,
  type ControllerMessage,
  ControllerMessageSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { grpcServiceDefinition } from '../../src/core/grpc-definition.ts';
import { RunningCommand } from '../fixtures/command.ts';
import type { Bench } from './bench.ts';

const AGENT = 'bench-host';

interface Greeting {
  readonly bytes: number;
  readonly hasFacts: boolean;
  readonly resumed: boolean;
}

/** Greets agents, notes how large each Hello was, and cuts the stream. */
class GreetingController {
  readonly greetings: Greeting[] = [];
  readonly server = new Server();
  readonly #wanted: number;
  readonly #enough = Promise.withResolvers<void>();

  constructor(wanted: number) {
    this.#wanted = wanted;
    const definition = grpcServiceDefinition(AgentLinkService);
    const control = definition['control']!;
    const sizes = new WeakMap<object, number>();
    const counted = {
      ...control,
      requestDeserialize: (bytes: Buffer) => {
        const message = control.requestDeserialize(bytes);
        sizes.set(message, bytes.length);
        return message;
      },
    };
    const handler: handleBidiStreamingCall<AgentMessage, ControllerMessage> = (stream) => {
      stream.on('error', () => stream.destroy());
      stream.on('data', (message: AgentMessage) => {
        if (message.message.case !== 'hello') return;
        const hello = message.message.value;
        const resumed = hello.sessionToken.length > 0;
        this.greetings.push({ bytes: sizes.get(message)!, hasFacts: hello.facts !== undefined, resumed });
        stream.write(welcome(resumed, hello.facts === undefined && !resumed));
        if (this.greetings.length >= this.#wanted) this.#enough.resolve();
        // Long enough for the handshake to count as completed.
        else setTimeout(() => stream.end(), 200);
      });
    };
    const idle: handleBidiStreamingCall<unknown, unknown> = (stream) => {
      stream.on('error', () => stream.destroy());
      stream.resume();
    };
    const handlers = { control: handler, logs: idle, telemetry: idle, tunnel: idle };
    this.server.addService({ ...definition, control: counted }, handlers as unknown as UntypedServiceImplementation);
  }

  async listen(): Promise<number> {
    const bound = Promise.withResolvers<number>();
    this.server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) bound.resolve(port);
      else bound.reject(error);
    });
    return await bound.promise;
  }

  async enough(limitMs: number, why: () => string): Promise<void> {
    const timer = setTimeout(() => {
      this.#enough.reject(
        new Error(`${this.greetings.length} of ${this.#wanted} connections in ${limitMs} ms: ${why()}`),
      );
    }, limitMs);
    await this.#enough.promise.finally(() => clearTimeout(timer));
  }
}

function welcome(resumed: boolean, needFacts: boolean): ControllerMessage {
  return create(ControllerMessageSchema, {
    message: {
      case: 'welcome',
      value: {
        protocol: 1,
        sessionToken: randomBytes(32),
        heartbeatInterval: { seconds: 15n },
        maxMessageBytes: 4 * 1024 * 1024,
        serverTime: timestampNow(),
        needFacts,
        resumed,
        controllerId: 'bench-controller',
      },
    },
  });
}

/** The bench. */
export const bench: Bench = {
  name: 'reconnect',
  description: 'bytes of the Hello of an agent that comes back unchanged',
  missing: () => undefined,
  run: async ({ quick }) => {
    const controller = new GreetingController(quick ? 3 : 6);
    const folder = await mkdtemp(join(tmpdir(), 'll-bench-'));
    const port = await controller.listen();
    const key = randomBytes(32).toString('hex');
    const env = { PATH: process.env['PATH'], HOME: folder, LONGLINE_API_KEY: key, LONGLINE_HTTP_PORT: '0' };
    const args = ['--controller', `http://127.0.0.1:${port}`, '--data-dir', folder, '--agent-id', AGENT];
    const agent = new RunningCommand(
      ['agent', ...args, '--reconnect-cap', '1s', '--docker-host', `unix://${folder}/no-engine.sock`],
      env,
    );
    try {
      await controller.enough(60_000, () => agent.stderr.slice(-2000));
    } finally {
      await agent.stop();
      controller.server.forceShutdown();
      await rm(folder, { recursive: true, force: true });
    }
    const again = controller.greetings.slice(1);
    if (again.length === 0) throw new Error('the agent did not come back');
    return [
      { metric: 'first Hello', unit: 'B', ours: controller.greetings[0]!.bytes },
      {
        metric: 'Hello, nothing changed',
        unit: 'B',
        ours: Math.max(...again.map((greeting) => greeting.bytes)),
        goal: { kind: 'at most', value: 256 },
      },
    ];
  },
};
