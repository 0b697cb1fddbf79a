import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type CallOptions, ConnectError } from '@connectrpc/connect';
import type { WatchProgramsResponse } from '#gen/longline/fleet/v1/program_service_pb.js';
import { Outcome } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import {
  ProgramRollbackTrigger,
  type ProgramSpecSchema,
  ProgramState,
  ProgramType,
  ProgramSpecSchema as SpecSchema,
} from '#gen/longline/v1/program_pb.js';
import { StatementSchema } from '#gen/longline/v1/signature_pb.js';
import { ProgramChanges, programHash } from '../../../src/controller/programs/program-changes.ts';
import { shapeProgram } from '../../../src/controller/services/program-methods.ts';
import { systemClock } from '../../../src/core/clock.ts';
import type { LonglineError } from '../../../src/core/errors.ts';
import { fromConnectError } from '../front/received-errors.ts';
import { FleetUnderTest, until } from '../link/fleet-fixture.ts';
import { connection } from '../store/store-contract.ts';
import { artifactOf, type MetadataInit, NAMES, ProgramAgent, piecesOf } from './program-fixture.ts';

type SpecInit = MessageInitShape<typeof ProgramSpecSchema>;

const refusal = async (call: Promise<unknown>): Promise<LonglineError> => {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ConnectError, `expected a ConnectError, got ${error}`);
  return fromConnectError(error);
};

describe('artifacts', () => {
  let fleet: FleetUnderTest;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());
  const upload = async (bytes: Uint8Array, options?: CallOptions) =>
    await fleet.programs.uploadArtifact(piecesOf(bytes), options);
  const download = async (digest: string, offset = 0n) => {
    const parts: Uint8Array[] = [];
    for await (const { data } of fleet.programs.downloadArtifact({ digest, offset })) parts.push(data);
    return Buffer.concat(parts);
  };

  it('are stored with what they say of themselves, once, and come back byte by byte', async () => {
    const { bytes, digest } = await artifactOf({}, 300_000);
    const first = await upload(bytes);
    const { metadata, signers, size } = first.artifact!;
    assert.deepEqual([first.created, first.artifact!.digest, size], [true, digest, BigInt(bytes.length)]);
    assert.deepEqual([metadata!.name, metadata!.version, signers], ['drop', '1.0.0', ['ops']]);
    const again = await upload(bytes);
    assert.deepEqual([again.created, again.artifact!.createTime], [false, first.artifact!.createTime]);
    assert.equal(Buffer.compare(await download(digest), bytes), 0);
    assert.equal(Buffer.compare(await download(digest, 100_001n), bytes.subarray(100_001)), 0);
    assert.equal((await download(digest, BigInt(bytes.length))).length, 0);
    assert.equal((await refusal(download(digest, BigInt(bytes.length) + 1n))).violations[0]?.field, 'offset');
    assert.equal((await refusal(download(`sha256:${'0'.repeat(64)}`))).reason, 'not_found');
  });

  it('are refused if they are none, and nothing of them stays', async () => {
    const { bytes } = await artifactOf({}, 1000);
    const flipped = bytes.slice();
    flipped[flipped.length - 10]! ^= 1;
    const wrongObject = await artifactOf({ objectSha256: '0'.repeat(64) });
    const wrongMetadata = await artifactOf({ name: '9', functions: [] });
    for (const [what, wrong, reason] of [
      ['nothing', new Uint8Array(), 'invalid'],
      ['text', Buffer.from('no artifact at all'), 'invalid'],
      ['a part', bytes.subarray(0, bytes.length - 1), 'invalid'],
      ['more than one', Buffer.concat([bytes, bytes]), 'invalid'],
      ['other bytes', flipped, 'invalid'],
      ['another object', wrongObject.bytes, 'invalid'],
      ['wrong metadata', wrongMetadata.bytes, 'invalid'],
      ['too many bytes', new Uint8Array(16 * 1024 * 1024 + 1), 'limit'],
    ] as const) {
      assert.equal((await refusal(upload(wrong))).reason, reason, what);
    }
    const large = fleet.programs.uploadArtifact(piecesOf(new Uint8Array(2 * 1024 * 1024), 1024 * 1024 + 1));
    assert.match((await refusal(large)).message, /at most 1048576 a message/);
    assert.deepEqual((await fleet.programs.listArtifacts({})).artifacts, []);
    assert.equal((await upload(bytes)).created, true, 'room for uploads is given back');
  });

  it('leave nothing behind where an upload ends early, and no more come at once than there is memory for', async () => {
    const { bytes } = await artifactOf({}, 1000);
    const left = new AbortController();
    const stuck = async function* () {
      yield { data: bytes.subarray(0, 100) };
      await new Promise<void>((resolve) => left.signal.addEventListener('abort', () => resolve()));
    };
    const uploads = Array.from({ length: 4 }, () =>
      fleet.programs.uploadArtifact(stuck(), { signal: left.signal }).catch((error: unknown) => error),
    );
    await until('uploads to be refused', async () => {
      const refused = await upload(bytes).catch((error: ConnectError) => fromConnectError(error));
      return 'reason' in refused && refused.reason === 'limit' && (refused.retryAfterMs ?? 0) > 0;
    });
    left.abort();
    for (const one of await Promise.all(uploads)) assert.ok(one instanceof ConnectError);
    const stored = await until('room for another', () => upload(bytes).catch(() => undefined));
    assert.equal((await fleet.programs.listArtifacts({})).artifacts[0]!.digest, stored.artifact!.digest);
  });

  it('are found by a part of their digest, if only one has it, and listed newest first', async () => {
    const made = [await artifactOf(), await artifactOf({ name: 'other' }), await artifactOf({ version: '2.0.0' })];
    for (const { bytes } of made) await upload(bytes);
    const { digest } = made[0]!;
    for (const asked of [digest, digest.slice(0, 15), digest.slice(7, 20), digest.slice(7)]) {
      assert.equal((await fleet.programs.getArtifact({ digest: asked })).artifact!.digest, digest, asked);
    }
    for (const wrong of ['', 'sha256:', digest.slice(0, 14), digest.toUpperCase(), `${digest}0`, '../../etc/passwd']) {
      assert.equal((await refusal(fleet.programs.getArtifact({ digest: wrong }))).reason, 'invalid', wrong);
    }
    assert.equal((await refusal(fleet.programs.getArtifact({ digest: 'f'.repeat(64) }))).reason, 'not_found');
    const twin = `${digest.slice(0, 20)}${'0'.repeat(51)}`;
    const { signers, metadata } = (await fleet.store.artifacts.get(digest))!;
    const record = { digest: twin, size: 1, name: 'drop', metadata, signers, createdAtMs: 1 };
    await fleet.store.artifacts.put(record, new Uint8Array(1), 1e9);
    const ambiguous = await refusal(fleet.programs.getArtifact({ digest: digest.slice(0, 20) }));
    assert.ok(ambiguous.message.includes(digest) && ambiguous.message.includes(twin), ambiguous.message);
    const list = async (name: string, pageToken = ''): Promise<string[]> => {
      const page = await fleet.programs.listArtifacts({ name, pageSize: 2, pageToken });
      const digests = page.artifacts.map((one) => one.digest);
      return page.nextPageToken === '' ? digests : [...digests, ...(await list(name, page.nextPageToken))];
    };
    assert.deepEqual(await list('drop'), [twin, made[2]!.digest, made[0]!.digest]);
    assert.equal((await list('')).length, 4);
    assert.equal((await refusal(list('', 'no token'))).violations[0]?.field, 'page_token');
    assert.equal((await refusal(list('no name'))).violations[0]?.field, 'name');
  });

  it('go unless a program wants them', async () => {
    await fleet.store.agents.connect(connection('a'));
    const { bytes, digest } = await artifactOf();
    await upload(bytes);
    await fleet.programs.putProgram({ agentId: 'a', spec: { name: 'p', artifact: digest } });
    const wanted = await refusal(fleet.programs.deleteArtifact({ digest }));
    assert.deepEqual([wanted.reason, /program p of agent a/.test(wanted.message)], ['wrong_state', true]);
    await fleet.programs.deleteProgram({ agentId: 'a', name: 'p' });
    await fleet.programs.deleteArtifact({ digest });
    assert.equal((await refusal(fleet.programs.deleteArtifact({ digest }))).reason, 'not_found');
    assert.equal((await refusal(fleet.programs.deleteArtifact({ digest: digest.slice(0, 20) }))).reason, 'invalid');
  });
});

describe('programs of agents', () => {
  let fleet: FleetUnderTest;
  let digest: string;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start({ polled: async (agentId) => (agentId === 'c' ? polled() : []) });
    for (const id of ['a', 'b', 'c']) await fleet.store.agents.connect(connection(id, NAMES));
    digest = await stored();
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const stored = async (patch: MetadataInit = {}) => {
    const { bytes } = await artifactOf(patch);
    return (await fleet.programs.uploadArtifact(piecesOf(bytes))).artifact!.digest;
  };
  const polled = () => [create(SpecSchema, { name: 'polled', artifact: digest })];
  const put = async (agentId: string, init: SpecInit = {}, validateOnly = false) =>
    await fleet.programs.putProgram({ agentId, spec: { name: 'p', artifact: digest, ...init }, validateOnly });
  const get = async (agentId: string, name = 'p') => (await fleet.programs.getProgram({ agentId, name })).program!;
  const list = async (filter = {}, pageSize = 0): Promise<string[]> => {
    const found: string[] = [];
    for (let pageToken = ''; ; ) {
      const page = await fleet.programs.listPrograms({ filter, pageSize, pageToken });
      assert.ok(pageSize === 0 || page.programs.length <= pageSize);
      found.push(...page.programs.map(({ agentId, spec, status }) => `${agentId}/${spec?.name ?? status?.name}`));
      pageToken = page.nextPageToken;
      if (pageToken === '') return found;
    }
  };

  it('are stored in one form, brought about by their agents, and shown with what those say', async () => {
    const made = await put('a', { attach: ['xdp:eth1', 'count@xdp:eth0'], ttl: durationFromMs(3_600_000) });
    assert.equal(made.changed, true);
    const { applied, generation, status, spec } = made.program!;
    assert.deepEqual(
      [applied, generation, status, spec!.attach],
      [false, 1n, undefined, ['xdp:eth1', 'count@xdp:eth0']],
    );
    const host = await ProgramAgent.connect(fleet, 'a');
    await host.apply(fleet);
    const found = await until('its word', async () => {
      const program = await get('a');
      return program.applied && program;
    });
    assert.deepEqual([found.status!.state, found.assignment], [ProgramState.ACTIVE, '']);
    const again = await put('a', { attach: ['xdp:eth1', 'count@xdp:eth0'], ttl: durationFromMs(3_600_000) });
    assert.deepEqual([again.changed, again.program!.generation, again.program!.applied], [false, 1n, true]);
    const changed = await put('a', { parameters: { limit: '0x10' }, thresholds: { maxErrors: 5n } });
    assert.deepEqual([changed.changed, changed.program!.applied], [true, false]);
    assert.equal(changed.program!.spec!.thresholds!.maxErrors, 5n);
    assert.equal(changed.program!.spec!.thresholds!.maxMemoryKb, undefined);
    const permit = await host.stream.next('desiredState');
    const { action } = fromBinary(StatementSchema, permit.statement!.payload).action!;
    assert.ok(action.case === 'program' && action.value.action.case === 'permit');
  });

  it('are refused with every wrong field, by what their artifact offers', async () => {
    const wrong = {
      name: '9',
      artifact: 'sha256:0',
      attach: ['nowhere'],
      parameters: { '9': '' },
      ttl: durationFromMs(1),
    };
    const { reason, violations } = await refusal(put('a', wrong));
    assert.equal(reason, 'invalid');
    assert.deepEqual(violations.map(({ field }) => field).sort(), [
      'spec.artifact',
      'spec.attach[0]',
      'spec.name',
      'spec.parameters',
      'spec.ttl',
    ]);
    const unfit = await refusal(put('a', { attach: ['tc:eth0:ingress'], parameters: { limit: '1001', other: '1' } }));
    assert.deepEqual(unfit.violations.map(({ field }) => field).sort(), [
      'spec.attach[0]',
      'spec.parameters.limit',
      'spec.parameters.other',
    ]);
    assert.equal((await refusal(put('x y'))).violations[0]?.field, 'agent_id');
    assert.equal((await refusal(put('nobody'))).reason, 'not_found');
    assert.equal((await refusal(put('a', { artifact: `sha256:${'0'.repeat(64)}` }))).reason, 'wrong_state');
    assert.equal((await refusal(fleet.programs.putProgram({ agentId: 'a' }))).violations[0]?.field, 'spec');
    await fleet.store.agents.revoke('b', 'lost');
    assert.equal((await refusal(put('b'))).reason, 'wrong_state');
    assert.deepEqual(await list({ agentId: 'a' }), []);
  });

  it('are checked only, if that is all that was asked for', async () => {
    const { changed, program } = await put('a', {}, true);
    assert.deepEqual([changed, program!.generation, program!.spec!.name], [true, 0n, 'p']);
    assert.equal((await refusal(get('a'))).reason, 'not_found');
    await put('a');
    assert.equal((await put('a', {}, true)).changed, false);
    assert.equal((await put('a', { renewal: 1n }, true)).changed, true);
  });

  it('are removed when their agent says so, and can be put again before', async () => {
    const host = await ProgramAgent.connect(fleet, 'a');
    await put('a');
    await host.apply(fleet);
    const removed = await fleet.programs.deleteProgram({ agentId: 'a', name: 'p' });
    assert.deepEqual([removed.program!.removing, removed.program!.spec!.artifact], [true, digest]);
    assert.equal((await put('a')).program!.removing, false);
    await fleet.programs.deleteProgram({ agentId: 'a', name: 'p' });
    await until('it to be gone', async () => {
      if (host.stream.received.some(({ case: kind }) => kind === 'desiredState')) await host.apply(fleet);
      return (await list({ agentId: 'a' })).length === 0;
    });
    assert.equal((await refusal(fleet.programs.deleteProgram({ agentId: 'a', name: 'p' }))).reason, 'not_found');
  });

  it('are left to the assignment that rules them', async () => {
    const { store, services } = fleet;
    const changes = new ProgramChanges({ store, bus: services.bus, clock: systemClock });
    const spec = await shapeProgram(store, create(SpecSchema, { name: 'p', artifact: digest }), 'spec');
    await changes.apply('a', () => [{ kind: 'put', assignment: 'p', spec, hash: programHash(spec) }]);
    assert.equal((await get('a')).assignment, 'p');
    assert.equal((await refusal(put('a'))).reason, 'wrong_state');
    assert.equal((await refusal(fleet.programs.deleteProgram({ agentId: 'a', name: 'p' }))).reason, 'wrong_state');
    assert.equal((await refusal(put('c', { name: 'polled' }))).reason, 'wrong_state');
    assert.deepEqual(await list({ assignment: 'p' }), ['a/p']);
    assert.deepEqual((await get('c', 'polled')).assignment, 'polled');
  });

  it('are shown though they come from elsewhere, and not taken away from here', async () => {
    const host = await ProgramAgent.connect(fleet, 'b');
    host.tell(0n, [{ name: 'local', source: 'local', state: ProgramState.FAILED }]);
    const program = await until('its word', () => get('b', 'local').catch(() => undefined));
    assert.deepEqual([program.spec, program.applied, program.status!.source], [undefined, false, 'local']);
    assert.equal((await refusal(fleet.programs.deleteProgram({ agentId: 'b', name: 'local' }))).reason, 'wrong_state');
    assert.deepEqual(await list({ states: [ProgramState.FAILED] }), ['b/local']);
  });

  it('are applied once an agent that polls for them speaks of what it is to find', async () => {
    assert.equal((await get('c', 'polled')).applied, false);
    const host = await ProgramAgent.connect(fleet, 'c');
    const state = ProgramState.ACTIVE;
    const [spec] = polled();
    const wantedSha256 = createHash('sha256').update(toBinary(SpecSchema, spec!)).digest();
    const toldOf = async (version: string, source: string, wantedSha256: Uint8Array) => {
      host.tell(0n, [{ name: 'polled', state, wantedArtifact: digest, source, wantedSha256, current: { version } }]);
      return await until('its word', async () => {
        const program = await get('c', 'polled');
        return program.status?.current?.version === version && program;
      });
    };
    assert.equal((await toldOf('1', 'registry', wantedSha256)).applied, true);
    assert.equal((await toldOf('2', 'registry', new Uint8Array(32))).applied, false, 'of other parameters');
    assert.equal((await toldOf('3', 'local', wantedSha256)).applied, false, 'of the host itself');
  });

  it('are listed by agent and name, in pages and by what they are', async () => {
    for (const [agentId, name] of [
      ['b', 'x'],
      ['a', 'y'],
      ['a', 'x'],
      ['b', 'a'],
    ] as const)
      await put(agentId, { name });
    const all = ['a/x', 'a/y', 'b/a', 'b/x'];
    assert.deepEqual(await list(), all);
    for (const pageSize of [1, 2, 3]) assert.deepEqual(await list({}, pageSize), all, `pages of ${pageSize}`);
    assert.deepEqual(await list({ name: 'x' }), ['a/x', 'b/x']);
    assert.deepEqual(await list({ agentId: 'b' }), ['b/a', 'b/x']);
    assert.deepEqual(await list({ states: [ProgramState.ACTIVE] }), []);
    const wrong = await refusal(list({ agentId: 'x y', name: '9', assignment: '-', states: [99] }));
    assert.equal(wrong.violations.length, 4);
  });

  it('are watched: those that are there, then each change, figures included', async () => {
    await put('a');
    const left = new AbortController();
    const events: WatchProgramsResponse['event'][] = [];
    const watching = (async () => {
      for await (const { event } of fleet.programs.watchPrograms(
        { filter: { agentId: 'a' } },
        { signal: left.signal },
      )) {
        events.push(event);
      }
    })().catch(() => undefined);
    const told = async (what: string, holds: (event: WatchProgramsResponse['event']) => boolean) =>
      await until(what, () => events.some(holds));
    await told('the first', ({ case: kind }) => kind === 'program');
    const host = await ProgramAgent.connect(fleet, 'a');
    await host.apply(fleet);
    await told('the report', ({ case: kind, value }) => kind === 'program' && value.applied);
    const figures = { packets: 7n, endTime: timestampFromMs(5) };
    host.agent.telemetry({ programs: [{ name: 'p', state: ProgramState.ACTIVE, figures }] });
    await told('figures', ({ case: kind, value }) => kind === 'program' && value.telemetry?.figures?.packets === 7n);
    await put('b');
    await fleet.programs.deleteProgram({ agentId: 'a', name: 'p' });
    await told('the removal', ({ case: kind, value }) => kind === 'program' && value.removing);
    await host.apply(fleet);
    await told('the end', ({ case: kind, value }) => kind === 'removed' && value.name === 'p' && value.agentId === 'a');
    assert.ok(events.every(({ value }) => value?.agentId === 'a'));
    left.abort();
    await watching;
  });

  const rollback = (id: string, more = {}) => {
    return { id, program: 'p', trigger: ProgramRollbackTrigger.ERRORS, reason: 'too many', ...more };
  };
  const rollbacks = async (patch = {}) => {
    const page = await fleet.programs.listRollbacks(patch);
    return page.rollbacks.map((one) => `${one.agentId}${one.rollback!.id}`);
  };

  it('are rolled back by a signed command, and what comes of it is told', async () => {
    await put('a');
    const host = await ProgramAgent.connect(fleet, 'a');
    const call = fleet.programs.rollBackProgram({ agentId: 'a', name: 'p', reason: 'slow', artifact: digest });
    const command = await host.stream.next('command');
    const { action, audience } = fromBinary(StatementSchema, command.statement!.payload);
    assert.ok(action!.action.case === 'program' && action!.action.value.action.case === 'rollBack');
    const { artifact, name, reason } = action!.action.value.action.value;
    assert.deepEqual([artifact, name, reason, audience!.agentIds], [digest, 'p', 'slow', ['a']]);
    host.stream.receive(command);
    const told = rollback('r1', { requestedBy: command.id, time: timestampFromMs(1000) });
    const detail = { case: 'program' as const, value: { result: { case: 'rollback' as const, value: told } } };
    const result = { commandId: command.id, seq: command.seq, outcome: Outcome.SUCCEEDED, detail };
    host.stream.send({ case: 'result', value: result });
    assert.equal((await call).rollback!.id, 'r1');
    assert.deepEqual((await host.stream.next('resultAck')).commandIds, [command.id]);
    host.stream.send({ case: 'result', value: result });
    host.tell(1n, [
      { name: 'p', lastRollback: rollback('r1') },
      { name: 'q', lastRollback: rollback('r2') },
    ]);
    await until('the second', async () => (await rollbacks()).length === 2);
    assert.deepEqual(await rollbacks(), ['ar2', 'ar1'], 'each once, newest first');
    assert.deepEqual(await rollbacks({ agentId: 'b' }), []);
    assert.deepEqual(await rollbacks({ pageSize: 1 }), ['ar2']);
  });

  it('are not rolled back for what is no request, nor without their agent', async () => {
    const host = await ProgramAgent.connect(fleet, 'a');
    const wrong = { agentId: 'x y', name: '9', reason: 'r'.repeat(1025), artifact: 'x' };
    assert.equal((await refusal(fleet.programs.rollBackProgram(wrong))).violations.length, 4);
    const nobody = fleet.programs.rollBackProgram({ agentId: 'nobody', name: 'p' });
    assert.equal((await refusal(nobody)).reason, 'not_found');
    const call = refusal(fleet.programs.rollBackProgram({ agentId: 'a', name: 'p' }));
    const command = await host.stream.next('command');
    const error = { reason: ErrorReason.WRONG_STATE, message: 'it runs another artifact' };
    host.stream.send({ case: 'rejected', value: { commandId: command.id, seq: command.seq, error } });
    assert.deepEqual([(await call).reason, (await call).message], ['wrong_state', error.message]);
    const unsaid = refusal(fleet.programs.rollBackProgram({ agentId: 'a', name: 'p' }));
    const { id, seq } = await host.stream.next('command');
    host.stream.send({ case: 'result', value: { commandId: id, seq, outcome: Outcome.INDETERMINATE } });
    assert.equal((await unsaid).reason, 'internal');
    assert.equal((await refusal(fleet.programs.listRollbacks({ agentId: 'x y', name: '9' }))).violations.length, 2);
  });

  it('are asked for nothing any more once their agent is deleted', async () => {
    const { store } = fleet;
    const call = refusal(fleet.programs.rollBackProgram({ agentId: 'a', name: 'p' }));
    const { connectionId } = (await store.agents.get('a'))!;
    await until('the command', async () => (await store.commands.claim(everyCommand())).length > 0);
    await store.agents.disconnect('a', connectionId, Date.now());
    await fleet.agents.deleteAgent({ agentId: 'a' });
    assert.equal((await call).reason, 'not_found');
  });
  const everyCommand = () => ({ agentId: 'a', afterSeq: 0, limit: 1, nowMs: Date.now() });

  it('may be loaded again once quarantine is released', async () => {
    const host = await ProgramAgent.connect(fleet, 'a');
    const call = fleet.programs.releaseQuarantine({ agentId: 'a', artifact: digest });
    const command = await host.stream.next('command');
    const value = { result: { case: 'released' as const, value: { artifacts: [digest] } } };
    const done = { commandId: command.id, seq: command.seq, outcome: Outcome.SUCCEEDED };
    host.stream.send({ case: 'result', value: { ...done, detail: { case: 'program', value } } });
    assert.deepEqual((await call).artifacts, [digest]);
    assert.equal((await refusal(fleet.programs.releaseQuarantine({ agentId: 'a', artifact: 'x' }))).reason, 'invalid');
  });

  it('are told as refused, with the reason', async () => {
    await put('a');
    const error = new Uint8Array([8, 4, 18, 2, 110, 111]);
    await fleet.store.desiredStates.refused('a', 2, { generation: 1n, error, atMs: 1 });
    const program = await get('a');
    assert.deepEqual([program.applied, program.error?.message], [false, 'no']);
  });

  it('differ in what their artifacts offer', async () => {
    const other = await stored({ functions: [{ name: 'count', type: ProgramType.TC, attach: [] }] });
    assert.equal((await refusal(put('a', { artifact: other }))).violations[0]?.field, 'spec.attach');
    assert.equal((await put('a', { artifact: other, attach: ['tc:eth0:egress'] })).changed, true);
  });
});
