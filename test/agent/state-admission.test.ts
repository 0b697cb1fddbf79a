import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { describe, it } from 'node:test';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { DesiredStateKind, DesiredStateSchema } from '#gen/longline/link/v1/link_pb.js';
import type { NetworkStatePermitSchema } from '#gen/longline/v1/network_pb.js';
import { ProgramDesiredStateSchema } from '#gen/longline/v1/program_pb.js';
import type { SignedPayload, StatementSchema } from '#gen/longline/v1/signature_pb.js';
import type { AuditEntry } from '../../src/agent/audit/audit-log.ts';
import { DesiredStateAdmission } from '../../src/agent/state-admission.ts';
import { LonglineError } from '../../src/core/errors.ts';
import { evaluatePolicy } from '../../src/core/policy/evaluation.ts';
import { DEFAULT_POLICY } from '../../src/core/policy/policy.ts';
import { generateSigningKey } from '../../src/core/signing/signing-key.ts';
import type { ReceivedState } from '../../src/link/ports.ts';
import { NOW_MS, nonce, signed, statementBytes, trustIn } from './trust/statement-fixture.ts';

const key = generateSigningKey('ed25519', 'ops');
const BODY = Buffer.from('body');
const PERMIT = { generation: 7n, baseGeneration: 6n, bodySha256: hash('sha256', BODY, 'buffer') };
const unseen = () => false;

function make(
  require: readonly string[] = DEFAULT_POLICY.signatures.require,
  capabilities: readonly string[] = ['network'],
) {
  const policy = { ...DEFAULT_POLICY, signatures: { ...DEFAULT_POLICY.signatures, require } };
  const host = { paths: { resolve: () => undefined, protectedPaths: [] }, defaultUser: '', defaultRuntime: '' };
  const entries: AuditEntry[] = [];
  const admission = new DesiredStateAdmission({
    trust: {
      find: (id: string) => (id === 'ops' ? trustIn(key, { capabilities: [...capabilities] }) : undefined),
    } as never,
    policy: { policy, evaluate: (request: never) => evaluatePolicy(policy, request, host as never) } as never,
    audit: {
      append: async (...added: AuditEntry[]) => void entries.push(...added),
      note: (...added: AuditEntry[]) => void entries.push(...added),
    } as never,
    clock: { now: () => NOW_MS } as never,
    nameplate: () => ({ agentId: 'web-1', labels: {} }),
    allowedControllers: () => undefined,
    maxSkewMs: 1000,
  });
  return { admission, entries };
}

function permitting(
  permit: MessageInitShape<typeof NetworkStatePermitSchema>,
  changes: MessageInitShape<typeof StatementSchema> = {},
): SignedPayload {
  const value = { action: { case: 'permit' as const, value: { ...PERMIT, ...permit } } };
  const action = { action: { case: 'network' as const, value } };
  return signed(statementBytes({ action, ...changes } as never), key);
}

function received(statement?: SignedPayload): ReceivedState {
  const { generation, baseGeneration } = PERMIT;
  const fields = { kind: DesiredStateKind.NETWORK, generation, baseGeneration };
  return {
    kind: 'network',
    state: create(DesiredStateSchema, { ...fields, ...(statement && { statement }) }),
    body: BODY,
  };
}

describe('admission of desired states', () => {
  it('takes an unsigned one unless the policy wants it signed, and records who asked for what', async () => {
    const { admission, entries } = make();
    const admitted = await admission.admit(received(), unseen);
    assert.equal(admitted.nonce.length, 0);
    admission.taken(received());
    const strict = make(['network']);
    await assert.rejects(strict.admission.admit(received(), unseen), {
      reason: 'policy',
      rule: 'signatures.require',
    });
    assert.deepEqual(
      [...entries, ...strict.entries].map(({ event, outcome, rule }) => [event, outcome, rule]),
      [
        ['received', undefined, undefined],
        ['admitted', 'allowed', undefined],
        ['started', undefined, undefined],
        ['received', undefined, undefined],
        ['refused', 'policy', 'signatures.require'],
      ],
    );
    assert.deepEqual(entries[0]?.summary, {
      action: 'desired_state',
      generation: '7',
      base_generation: '6',
      payload_bytes: 4,
      payload_sha256: hash('sha256', BODY),
      key_ids: [],
    });
  });

  it('takes a signed one whose nonce is new, and says until when that is to be remembered', async () => {
    const { admission, entries } = make(['network']);
    const id = nonce();
    const admitted = await admission.admit(received(permitting({}, { nonce: id })), unseen);
    assert.deepEqual([...admitted.nonce], [...id]);
    assert.equal(admitted.nonceExpiresAtMs, NOW_MS + 61_000);
    assert.deepEqual([entries[1]?.keyId, entries[1]?.controllerId], ['ops', 'main']);
    const replayed = admission.admit(received(permitting({}, { nonce: id })), () => true);
    await assert.rejects(replayed, { reason: 'stale', rule: 'statement.nonce' });
  });

  it('refuses a statement that permits anything else, is late, or was meant for others, also where none is needed', async () => {
    const { admission } = make();
    const refused = (statement: SignedPayload, expected: Partial<LonglineError>) =>
      assert.rejects(admission.admit(received(statement), unseen), expected);
    const other = { reason: 'policy', rule: 'statement.action' } as const;
    await refused(permitting({ generation: 8n }), other);
    await refused(permitting({ baseGeneration: 0n }), other);
    await refused(permitting({ bodySha256: hash('sha256', 'another', 'buffer') }), other);
    await refused(permitting({ bodySha256: new Uint8Array() }), other);
    await refused(signed(statementBytes(), key), { reason: 'policy' });
    await refused(permitting({}, { expireTime: timestampFromMs(NOW_MS - 1) }), { rule: 'statement.expire_time' });
    await refused(permitting({}, { audience: { agentIds: ['web-2'] } }), { rule: 'statement.audience' });
    const stranger = generateSigningKey('ed25519', 'stranger');
    await refused(signed(Buffer.from('anything'), stranger), { reason: 'identity' });
  });

  it('takes programs only signed unless the policy says otherwise, by a key that may, and records which artifacts', async () => {
    const artifact = `sha256:${'a'.repeat(64)}`;
    const programs = [{ name: 'drop', artifact, parameters: { secret: 'hidden' } }];
    const body = toBinary(
      ProgramDesiredStateSchema,
      create(ProgramDesiredStateSchema, { programs, removedPrograms: ['old'] }),
    );
    const wanted = (statement?: SignedPayload): ReceivedState => ({ ...received(statement), kind: 'programs', body });
    const permit = { ...PERMIT, bodySha256: hash('sha256', body, 'buffer') };
    const permitted = (of: 'program' | 'network', change = {}) => {
      const value = { action: { case: 'permit' as const, value: { ...permit, ...change } } };
      return signed(statementBytes({ action: { action: { case: of, value } } } as never), key);
    };
    const { admission, entries } = make(DEFAULT_POLICY.signatures.require, ['network', 'programs']);
    const unsigned = { reason: 'policy', rule: 'signatures.require' } as const;
    await assert.rejects(admission.admit(wanted(), unseen), unsigned);
    const other = { reason: 'policy', rule: 'statement.action' } as const;
    await assert.rejects(admission.admit(wanted(permitted('program', { generation: 8n })), unseen), other);
    const network = { reason: 'invalid', rule: 'statement.action' } as const;
    await assert.rejects(admission.admit(wanted(permitted('network')), unseen), network);
    entries.length = 0;
    await admission.admit(wanted(permitted('program')), unseen);
    const { keyId, capability, summary } = entries[1]!;
    assert.deepEqual([keyId, capability], ['ops', 'programs']);
    const named = { programs: [`drop ${artifact}`], program_count: 1, removed: ['old'] };
    assert.deepEqual(summary, { action: 'desired_state', generation: '7', ...named });
    const stranger = make(DEFAULT_POLICY.signatures.require, ['network']).admission;
    await assert.rejects(stranger.admit(wanted(permitted('program')), unseen), { reason: 'policy' });
    const open = make([]);
    await open.admission.admit(wanted(), unseen);
    await open.admission.admit({ ...wanted(), body: Buffer.from('no such message') }, unseen);
  });

  it('records what others refused', () => {
    const { admission, entries } = make();
    admission.refused(received(), new LonglineError('stale', 'generation 7 is older'));
    assert.deepEqual([entries[0]?.event, entries[1]?.event, entries[1]?.outcome], ['received', 'refused', 'stale']);
    assert.equal(entries[1]?.summary?.['refusal'], 'generation 7 is older');
  });
});
