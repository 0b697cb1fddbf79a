import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type OpenTunnel, OpenTunnelSchema } from '#gen/longline/link/v1/link_pb.js';
import type { OpenSessionTunnelSchema } from '#gen/longline/v1/session_pb.js';
import type { AuditEntry } from '../../../src/agent/audit/audit-log.ts';
import { TunnelAdmission } from '../../../src/agent/tunnels/tunnel-admission.ts';
import { evaluatePolicy } from '../../../src/core/policy/evaluation.ts';
import { DEFAULT_POLICY } from '../../../src/core/policy/policy.ts';
import type { TunnelKind } from '../../../src/core/policy/session-policy.ts';
import type { SessionFacts } from '../../../src/core/session-access.ts';
import { generateSigningKey } from '../../../src/core/signing/signing-key.ts';
import { NOW_MS, nonce, signed, statementBytes, trustIn } from '../trust/statement-fixture.ts';

const key = generateSigningKey('ed25519', 'ops');
const DESK: SessionFacts = { image: 'desktop:1', user: '1000:1000' };
const EXEC = { argv: ['sh'], env: {}, tty: true, user: '', workingDir: '' };

function make(options: { require?: readonly string[]; tunnels?: readonly TunnelKind[]; startedMs?: number } = {}) {
  const { require = ['jobs', 'programs'], startedMs = NOW_MS - 5000 } = options;
  const rules = { tunnels: options.tunnels ?? DEFAULT_POLICY.sessions.tunnels, trusted: true };
  const policy = () => ({
    ...DEFAULT_POLICY,
    signatures: { ...DEFAULT_POLICY.signatures, require },
    sessions: { ...DEFAULT_POLICY.sessions, tunnels: rules.tunnels },
  });
  const host = { paths: { resolve: () => undefined, protectedPaths: [] }, defaultUser: '', defaultRuntime: '' };
  const entries: AuditEntry[] = [];
  let nowMs = startedMs;
  const admission = new TunnelAdmission({
    trust: {
      find: (id: string) =>
        rules.trusted && id === key.keyId ? trustIn(key, { capabilities: ['sessions'] }) : undefined,
    } as never,
    policy: {
      policy: policy(),
      evaluate: (request: never) => evaluatePolicy(policy(), request, host as never),
    } as never,
    audit: {
      append: async (...added: AuditEntry[]) => void entries.push(...added),
      note: (...added: AuditEntry[]) => void entries.push(...added),
    } as never,
    clock: { now: () => nowMs } as never,
    nameplate: () => ({ agentId: 'web-1', labels: {} }),
    allowedControllers: () => undefined,
    maxSkewMs: 1000,
  });
  nowMs = NOW_MS;
  const admit = (asked: OpenTunnel, session: SessionFacts | undefined = DESK) => admission.admit(asked, session);
  return { admission, entries, admit, rules };
}

function ask(init: MessageInitShape<typeof OpenTunnelSchema> = {}): OpenTunnel {
  return create(OpenTunnelSchema, { tunnelId: 't1', sessionId: 'desk', port: 5901, creator: 'alice', ...init });
}

function statement(tunnel: MessageInitShape<typeof OpenSessionTunnelSchema>, times: { issuedAtMs?: number } = {}) {
  const value = { action: { case: 'tunnel' as const, value: tunnel } };
  const payload = statementBytes({
    nonce: nonce(),
    ...(times.issuedAtMs === undefined ? {} : { issueTime: timestampFromMs(times.issuedAtMs) }),
    action: { action: { case: 'session', value } },
  } as never);
  return signed(payload, key);
}

const port = (value: number) => ({ sessionId: 'desk', target: { target: { case: 'port' as const, value } } });

describe('admission of tunnels', () => {
  it('follows the policy on ways in, and records who asked for what', async () => {
    const { admission, entries, admit } = make({ tunnels: ['port'] });
    await admit(ask());
    const exec = ask({ port: 0, process: { case: 'exec', value: { ...EXEC, argv: ['sh', '-c', 'secret'] } } });
    await assert.rejects(admit(exec), /forbidden by policy rule sessions.tunnels: running a process/);
    admission.ended(ask(), 'succeeded');
    assert.deepEqual(
      entries.map(({ event, outcome }) => [event, outcome]),
      [
        ['admitted', 'allowed'],
        ['refused', 'policy'],
        ['ended', 'succeeded'],
      ],
    );
    assert.deepEqual(entries[0]?.summary, { action: 'tunnel', session_id: 'desk', creator: 'alice', port: 5901 });
    assert.equal(entries[1]?.summary?.['exec'], 'sh');
    assert.doesNotMatch(JSON.stringify(entries), /secret/);
  });

  it('is looked at again by the rules and keys as they are later', async () => {
    const { admit, rules } = make({ require: ['sessions'] });
    const [allowed, other] = [
      await admit(ask({ statement: statement(port(5901)) })),
      await admit(ask({ statement: statement(port(5901)) })),
    ];
    allowed();
    rules.tunnels = ['exec'];
    assert.throws(allowed, { reason: 'policy', rule: 'sessions.tunnels' });
    rules.tunnels = ['port'];
    allowed();
    rules.trusted = false;
    assert.throws(other, { reason: 'policy', message: /key ops, which allowed the tunnel, is no longer trusted/ });
  });

  it('takes an unsigned one only where sessions need no signature', async () => {
    await make().admit(ask());
    const { admit } = make({ require: ['sessions'] });
    await assert.rejects(admit(ask()), /sessions must be signed/);
    await admit(ask({ statement: statement(port(5901)) }));
  });

  it('lets a command run as another user than the session only if policy lets a session be that', async () => {
    const { admission, admit, entries } = make();
    const as = (user: string) => ask({ port: 0, process: { case: 'exec', value: { ...EXEC, user } } });
    await assert.rejects(admit(as('root')), { reason: 'policy', rule: 'sessions.images.default.users' });
    assert.deepEqual([entries[0]?.event, entries[0]?.summary?.['user']], ['refused', 'root']);
    for (const user of ['', '1000:1000', '1001:1001']) await admit(as(user));
    await admit(as('root'), { ...DESK, user: 'root' });
    await assert.rejects(admit(as('root'), { ...DESK, user: '' }), { reason: 'policy' });
    await assert.rejects(admission.admit(as('1001:1001'), undefined), { reason: 'not_found' });
  });

  it('refuses a statement for something else', async () => {
    const { admit } = make({ require: ['sessions'] });
    const exec = { sessionId: 'desk', target: { target: { case: 'exec' as const, value: EXEC } } };
    for (const meant of [port(22), { ...port(5901), sessionId: 'other' }, exec]) {
      await assert.rejects(admit(ask({ statement: statement(meant) })), /allows another tunnel/);
    }
    const other = signed(statementBytes({ nonce: nonce() }), generateSigningKey('ed25519', 'stranger'));
    await assert.rejects(admit(ask({ statement: other })), { reason: 'identity' });
  });

  it('takes a command whatever the size of the terminal, and no other words', async () => {
    const { admit } = make({ require: ['sessions'] });
    const target = (argv: string[]) => ({
      sessionId: 'desk',
      target: { target: { case: 'exec' as const, value: { ...EXEC, argv, size: { rows: 1, columns: 1 } } } },
    });
    const process = { case: 'exec' as const, value: { ...EXEC, size: { rows: 24, columns: 80 } } };
    await admit(ask({ port: 0, process, statement: statement(target(['sh'])) }));
    const wrong = ask({ port: 0, process, statement: statement(target(['bash'])) });
    await assert.rejects(admit(wrong), /allows another tunnel/);
  });

  it('takes a statement once, and none from before its own start', async () => {
    const { admit } = make({ require: ['sessions'] });
    const once = statement(port(5901));
    await admit(ask({ statement: once }));
    await assert.rejects(admit(ask({ statement: once })), /replayed/);
    const old = statement(port(5901), { issuedAtMs: NOW_MS - 30_000 });
    await assert.rejects(admit(ask({ statement: old })), /signed after the start of the agent/);
  });
});
