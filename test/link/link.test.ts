import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { Metadata } from '@grpc/grpc-js';
import { Outcome, WelcomeSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { MetricSampleSchema } from '#gen/longline/v1/telemetry_pb.js';
import { toGrpcStatus } from '../../src/controller/front/errors.ts';
import { LonglineError } from '../../src/core/errors.ts';
import { AgentSide, untilCancelled } from './agent-side.ts';
import { makePki } from './certificates.ts';
import { controllerMessageBytes, TestController, unknownControllerMessage } from './controller-double.ts';
import { scratchFolder, until } from './scratch.ts';

const open = (agent: AgentSide) => agent.link.status().state.kind === 'open';

describe('link over mTLS', () => {
  it('runs a command, ships its output, gets both acknowledged, and resumes the TLS session on a reconnect', async () => {
    const pki = await makePki();
    await using folder = await scratchFolder();
    await using controller = await TestController.start({ identity: pki.server, authority: pki.authority });
    await using agent = await AgentSide.open(folder.path, () => controller.port, { pki });
    agent.executor.run = async function* (command) {
      const log = await agent.link.logs.open(command.id);
      await log.append({ stream: 'stdout', data: Buffer.from('hello\n') }, Date.now());
      await log.close();
      yield { kind: 'result', outcome: 'succeeded', detail: new Uint8Array() };
    };
    await agent.start();
    await until('the link is open', () => open(agent));
    const command = controller.command();
    controller.send({ case: 'command', value: command });
    await until('result and log came', () => controller.results.size === 1 && !!controller.logs.get(command.id)?.close);
    assert.equal(controller.results.get(command.id)?.outcome, Outcome.SUCCEEDED);
    assert.equal(String(controller.logs.get(command.id)?.bytes('stdout')), 'hello\n');
    const kinds = controller.messages.map((message) => message.case).filter((kind) => kind !== 'heartbeat');
    assert.deepEqual(kinds, ['hello', 'received', 'result']);
    await until('all is acknowledged', () => agent.link.status().pendingReplies + agent.link.status().spoolLogs === 0);
    controller.open[0]!.call.end();
    await until('it is connected again', () => controller.connections.length === 2 && open(agent));
    assert.equal(agent.link.status().resumedTlsSessions, 1);
  });

  it('does not talk to a controller of another authority', async () => {
    const pki = await makePki();
    const other = await makePki();
    await using folder = await scratchFolder();
    await using controller = await TestController.start({ identity: other.server, authority: other.authority });
    await using agent = await AgentSide.open(folder.path, () => controller.port, { pki });
    await agent.start();
    await until('two attempts failed', () => agent.link.status().failures >= 2);
    const { state } = agent.link.status();
    assert.ok(state.kind !== 'open');
    assert.equal(controller.connections.length, 0);
  });
});

describe('link', () => {
  it('leaves no connection behind whose handshake it could not take to its end', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    let proven = 0;
    const target = {
      ...{ agentId: 'agent-under-test', leaderEpoch: 0n },
      instanceId: '01980000-0000-7000-8000-000000000001',
      bootId: '01980000-0000-7000-8000-000000000002',
      credentials: { kind: 'api_key' as const, apiKey: 'a'.repeat(64), trustedCertificates: undefined },
    };
    const targets = {
      current: async () => ({ ...target, url: `http://127.0.0.1:${controller.port}` }),
      proven: () => {
        proven += 1;
        if (proven === 1) throw new Error('no room for what was proven');
      },
    };
    await using agent = await AgentSide.open(folder.path, () => controller.port, { targets });
    await agent.start();
    await until('the link is open', () => open(agent));
    await until('only one connection is left', () => controller.open.length === 1);
    assert.equal(controller.connections.length, 2);
  });

  it('says so little on a reconnect with unchanged state that hello and welcome fit into 256 bytes', async (context) => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('the link is open', () => open(agent));
    assert.ok(controller.connections[0]!.hello.facts !== undefined, 'the first hello carries the facts');
    controller.open[0]!.call.end();
    await until('it is connected again', () => controller.connections.length === 2 && open(agent));
    const { hello, helloBytes } = controller.connections[1]!;
    assert.equal(hello.facts, undefined);
    assert.equal(hello.sessionToken.length, 32);
    const welcome = create(WelcomeSchema, {
      protocol: 1,
      sessionToken: new Uint8Array(32),
      heartbeatInterval: { seconds: 15n },
      maxMessageBytes: 4_194_304,
      serverTime: { seconds: 1_700_000_000n, nanos: 999_999_999 },
      resumed: true,
      controllerId: '01980000-0000-7000-8000-000000000001',
    });
    const sum = helloBytes + controllerMessageBytes({ case: 'welcome', value: welcome });
    context.diagnostic(`hello ${helloBytes} bytes, with welcome ${sum}`);
    assert.ok(sum <= 256, `hello and welcome have ${sum} bytes`);
  });

  it('sends the facts when they are asked for', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    controller.behaviour.welcome = { needFacts: true };
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('the facts came', () => controller.received('facts').length === 1);
    assert.equal(controller.received('facts')[0]?.hostname, 'host');
  });

  it('repeats a result on each connection until it is acknowledged, also from a new process', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    controller.behaviour.acknowledgeResults = false;
    const command = controller.command();
    {
      await using agent = await AgentSide.open(folder.path, () => controller.port);
      await agent.start();
      await until('the link is open', () => open(agent));
      controller.send({ case: 'command', value: command });
      await until('the result came', () => controller.received('result').length === 1);
      controller.open[0]!.call.end();
      await until('the result came again', () => controller.received('result').length === 2);
    }
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('the result came a third time', () => controller.received('result').length === 3);
    assert.deepEqual(controller.connections.at(-1)?.hello.pendingResultIds, [command.id]);
    assert.equal(agent.executor.starts.length, 0, 'the new process did not run it');
    controller.send({ case: 'resultAck', value: { commandIds: [command.id] } });
    await until('it is forgotten', () => agent.link.status().pendingReplies === 0);
  });

  it('goes on with unfinished commands after a restart, with or without controller', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const command = controller.command();
    {
      await using agent = await AgentSide.open(folder.path, () => controller.port);
      agent.executor.run = untilCancelled;
      await agent.start();
      await until('the link is open', () => open(agent));
      controller.send({ case: 'command', value: command });
      await until('it runs', () => agent.executor.starts.length === 1);
    }
    controller.stop();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    assert.deepEqual([...agent.link.unfinishedIds], [command.id]);
    await agent.start();
    await until('it ended', () => agent.link.status().pendingReplies === 1);
    assert.deepEqual(agent.executor.starts, [{ id: command.id, resumed: true }]);
    await controller.restart();
    await until('the result came', () => controller.results.has(command.id));
  });

  it('makes a new connection before it leaves the old one when it is drained', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    const finished = Promise.withResolvers<void>();
    agent.executor.run = async function* (command) {
      const log = await agent.link.logs.open(command.id);
      for (let index = 0; index < 200; index++) {
        await log.append({ stream: 'stdout', data: Buffer.alloc(20_000, index) }, 1);
      }
      await finished.promise;
      await log.append({ stream: 'stdout', data: Buffer.from('end') }, 1);
      await log.close();
      yield { kind: 'result', outcome: 'succeeded', detail: new Uint8Array() };
    };
    await agent.start();
    await until('the link is open', () => open(agent));
    const command = controller.command();
    controller.send({ case: 'command', value: command });
    await until('output comes', () => (controller.logs.get(command.id)?.offsets.get('stdout') ?? 0n) > 0n);
    controller.send({ case: 'drain', value: { window: { seconds: 1n }, reason: 'test' } });
    await until('only the new one is open', () => controller.connections.length === 2 && controller.open.length === 1);
    assert.equal(controller.mostOpen, 2, 'both were open at the same time');
    assert.equal(controller.connections[1]!.hello.inFlightCommandIds[0], command.id);
    finished.resolve();
    const log = controller.logs.get(command.id)!;
    await until('all came', () => controller.results.has(command.id) && log.close !== undefined);
    assert.deepEqual(log.faults, []);
    assert.equal(log.bytes('stdout').length, 4_000_003);
    assert.equal(agent.link.status().failures, 0);
  });

  it('honours RetryInfo when the controller has no room', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    controller.behaviour.onHello = (call) => {
      const delay = [0x08, 0x07];
      const info = [0x0a, delay.length, ...delay];
      const type = Buffer.from('type.googleapis.com/google.rpc.RetryInfo');
      const any = [0x0a, type.length, ...type, 0x12, info.length, ...info];
      const metadata = new Metadata();
      metadata.set('grpc-status-details-bin', Buffer.from([0x08, 8, 0x1a, any.length, ...any]));
      call.emit('error', Object.assign(new Error('full'), { code: 8, details: 'try later', metadata }));
    };
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    const startedAtMs = Date.now();
    await agent.start();
    await until('it backs off', () => agent.link.status().state.kind === 'backing_off');
    const { state } = agent.link.status();
    assert.ok(state.kind === 'backing_off');
    assert.match(state.reason, /^the control stream ended with RESOURCE_EXHAUSTED: try later/);
    assert.ok(state.untilMs - startedAtMs >= 7000, 'it waits the seven seconds that were asked for');
  });

  it('tells why it is refused, with the epoch that the controller knows of: at Hello, and later', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const stale = (newestEpoch: bigint) =>
      Object.assign(new Error(), toGrpcStatus(new LonglineError('stale', 'it is over', { newestEpoch })));
    const refused: [string, bigint | undefined][] = [];
    const onRefused = ({ reason, newestEpoch }: LonglineError) => void refused.push([reason, newestEpoch]);
    controller.behaviour.onHello = (call) => void call.emit('error', stale(7n));
    await using agent = await AgentSide.open(folder.path, () => controller.port, { onRefused });
    await agent.start();
    await until('it was refused', () => refused.length > 0);
    controller.behaviour.onHello = undefined;
    await until('the link is open', () => open(agent));
    const before = refused.length;
    // As long as a connection serves, it is the new one that is refused and not the agent.
    controller.behaviour.onHello = (call) => void call.emit('error', stale(8n));
    const { failures } = agent.link.status();
    agent.link.reconnect('a test');
    await until('two tries failed', () => agent.link.status().failures > failures + 1);
    assert.equal(refused.length, before);
    controller.behaviour.onHello = undefined;
    await until('another connection serves', () => controller.open.length === 1 && open(agent));
    controller.open[0]!.call.emit('error', stale(9n));
    await until('it was ended', () => refused.length > before);
    assert.deepEqual(
      [refused[0], refused[before]],
      [
        ['stale', 7n],
        ['stale', 9n],
      ],
    );
  });

  it('refuses a protocol it does not speak, with the range named', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    controller.behaviour.welcome = { protocol: 9 };
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('two attempts failed', () => agent.link.status().failures >= 2);
    assert.ok(
      agent.log.lines.some(({ fields }) =>
        /speaks protocol 9; this agent speaks 1 to 1/.test(String(fields['reason'])),
      ),
    );
  });

  it('gives up an attempt whose controller never says welcome', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    controller.behaviour.onHello = () => undefined;
    await using agent = await AgentSide.open(folder.path, () => controller.port, { limits: { bringUpMs: 500 } });
    await agent.start();
    await until('it says why it gives up', () =>
      agent.log.lines.some(({ fields }) => /hung in Hello and Welcome/.test(String(fields['reason']))),
    );
    await until('it tries again', () => controller.connections.length >= 2);
  });

  it('ignores and counts kinds it does not know, and ends a connection that breaks the protocol', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('the link is open', () => open(agent));
    controller.open[0]!.call.write(unknownControllerMessage());
    await until('it was counted', () => agent.link.status().unknownMessages === 1);
    assert.ok(open(agent));
    controller.send({ case: 'welcome', value: { protocol: 1 } });
    await until('it is connected again', () => controller.connections.length === 2 && open(agent));
    assert.ok(agent.log.lines.some(({ fields }) => /second welcome/.test(String(fields['reason']))));
  });

  it('survives a message that is larger than it takes', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('the link is open', () => open(agent));
    const huge = controller.command({ statement: { payload: new Uint8Array(17_000_000) } });
    controller.send({ case: 'command', value: huge });
    await until('it is connected again', () => controller.connections.length === 2 && open(agent));
    assert.equal(agent.executor.starts.length, 0);
  });

  it('answers a desired state that nothing here applies', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('the link is open', () => open(agent));
    controller.send({ case: 'desiredState', value: { kind: 1, generation: 4n } });
    await until('it was answered', () => controller.received('stateReport').length === 1);
    const [report] = controller.received('stateReport');
    assert.equal(report?.error?.reason, ErrorReason.UNSUPPORTED);
    assert.equal(report?.generation, 4n);
  });

  it('sends events, checkpoints and samples, and keeps them while the controller is away', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const acks: unknown[] = [];
    await using agent = await AgentSide.open(folder.path, () => controller.port, {
      limits: { maxEvents: 3 },
      onCheckpointAck: (chain, sequence) => acks.push([chain, sequence]),
    });
    for (let index = 0; index < 5; index++) agent.link.emit({ type: `event.${index}`, message: 'm' });
    const checkpoint = {
      $typeName: 'longline.link.v1.AuditCheckpoint',
      chainId: 'c',
      head: new Uint8Array(),
      publicKey: new Uint8Array(),
    } as const;
    agent.link.sendAuditCheckpoint({ ...checkpoint, sequence: 1n });
    agent.link.sendAuditCheckpoint({ ...checkpoint, sequence: 2n });
    for (const value of [1, 2]) agent.link.telemetry([create(MetricSampleSchema, { name: 'm', value })]);
    await agent.start();
    await until('all came', () => controller.received('event').length === 3 && controller.telemetry.length === 1);
    assert.deepEqual(
      controller.received('event').map(({ type }) => type),
      ['event.2', 'event.3', 'event.4'],
    );
    assert.equal(agent.link.status().droppedEvents, 2);
    assert.deepEqual(
      controller.received('auditCheckpoint').map(({ sequence }) => sequence),
      [2n],
    );
    assert.equal(controller.telemetry[0]?.samples[0]?.value, 2);
    assert.equal(controller.telemetry[0]?.dropped, 1n);
    controller.send({ case: 'auditCheckpointAck', value: { chainId: 'c', sequence: 2n } });
    await until('the ack came', () => acks.length === 1);
    assert.deepEqual(acks, [['c', 2n]]);
  });

  it('passes input to the command and acknowledges what was taken', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('the log stream is open', () => {
      if (!open(agent)) return false;
      agent.link.logs.open('x').catch(assert.fail);
      return controller.logsCall !== undefined;
    });
    for (const [offset, text] of [
      [0n, 'he'],
      [2n, 'llo'],
      [2n, 'llo!'],
    ] as const) {
      const value = { logId: 'x', offset, data: Buffer.from(text), end: text.endsWith('!') };
      controller.logsCall!.write({
        $typeName: 'longline.link.v1.LogsResponse',
        message: { case: 'input', value: { $typeName: 'longline.link.v1.Input', ...value } },
      });
    }
    await until('the end was acknowledged', () => controller.inputAcks.some(({ closed }) => closed));
    assert.equal(agent.executor.inputs.get('x'), 'hello!');
    assert.equal(controller.inputAcks.at(-1)?.offset, 6n);
  });

  it('has a log stream only while there is a log, and a while longer', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port, { limits: { logIdleMs: 1 } });
    await agent.start();
    await until('the link is open', () => open(agent));
    controller.send({ case: 'command', value: controller.command() });
    await until('a result came', () => controller.results.size === 1);
    assert.equal(controller.logStreams.opened, 0, 'a command without output needs none');
    for (const round of [1, 2]) {
      const log = await agent.link.logs.open(`log-${round}`);
      await until('the stream is open', () => controller.logStreams.opened === round);
      await log.append({ stream: 'stdout', data: Buffer.from(`${round}`) }, Date.now());
      await log.close();
      await until('the log came whole', () => !!controller.logs.get(`log-${round}`)?.close);
      assert.equal(String(controller.logs.get(`log-${round}`)?.bytes('stdout')), `${round}`);
      await until('the stream was ended', () => controller.logStreams.open === 0);
    }
    assert.equal(controller.connections.length, 1);
    assert.ok(!agent.log.lines.some(({ message }) => /log stream failed/.test(message)));
  });

  it('measures round trips and tells them with the usage of the host', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    controller.behaviour.heartbeatMs = 100;
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    await agent.start();
    await until('a round trip was told', () =>
      controller.received('heartbeat').some((beat) => beat.roundTrip !== undefined),
    );
    assert.ok((agent.link.status().roundTripMs ?? -1) >= 0);
    assert.equal(controller.received('heartbeat')[0]?.usage?.maxJobs, 5);
  });
});
