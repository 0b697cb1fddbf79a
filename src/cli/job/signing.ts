// Signing a job on the operator's side, so that not even the controller's key can change it, and reading one that was
// signed elsewhere.
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { create, fromBinary, fromJson, toBinary, toJson } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Selector, SelectorSchema } from '#gen/longline/v1/agent_pb.js';
import type { JobSpec, JobTarget } from '#gen/longline/v1/job_pb.js';
import {
  type Action,
  ActionSchema,
  SignatureAlgorithm,
  type SignedPayload,
  SignedPayloadSchema,
  type Statement,
  StatementSchema,
} from '#gen/longline/v1/signature_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { parseKeyFile } from '../../core/signing/key-file.ts';
import { STATEMENT_PAYLOAD_TYPE, signPayload } from '../../core/signing/signature.ts';
import type { SigningKey } from '../../core/signing/signing-key.ts';
import { readOptionFile } from './spec-options.ts';

const NONCE_BYTES = 32;

/** What a statement says beside the job. */
export interface StatementFacts {
  readonly controllerId: string;
  readonly target: JobTarget;
  /** From now on; refused by the agent after it. */
  readonly ttlMs: number;
}

/** Signs a job for its target. */
export function signJob(spec: JobSpec, facts: StatementFacts, key: SigningKey, nowMs: number): SignedPayload {
  const { target } = facts.target;
  const audience =
    target.case === 'agentId'
      ? create(SelectorSchema, { agentIds: [target.value] })
      : (target.value ?? create(SelectorSchema));
  const action = create(ActionSchema, { action: { case: 'job', value: { action: { case: 'run', value: spec } } } });
  return signAction(action, { ...facts, audience }, key, nowMs);
}

/** Signs an action for those whom it is meant for. */
export function signAction(
  action: Action,
  facts: Pick<StatementFacts, 'controllerId' | 'ttlMs'> & { readonly audience: Selector },
  key: SigningKey,
  nowMs: number,
): SignedPayload {
  const statement = create(StatementSchema, {
    nonce: randomBytes(NONCE_BYTES),
    controllerId: facts.controllerId,
    audience: facts.audience,
    issueTime: timestampFromMs(nowMs),
    expireTime: timestampFromMs(nowMs + facts.ttlMs),
    action,
  });
  const payload = toBinary(StatementSchema, statement);
  const algorithm = key.algorithm === 'ed25519' ? SignatureAlgorithm.ED25519 : SignatureAlgorithm.HMAC_SHA256;
  const value = signPayload(key, STATEMENT_PAYLOAD_TYPE, payload);
  return create(SignedPayloadSchema, {
    payloadType: STATEMENT_PAYLOAD_TYPE,
    payload,
    signatures: [{ keyId: key.keyId, algorithm, value }],
  });
}

/** Reads a private key file. Throws `policy` if others may read it, `invalid` if it can't sign. */
export async function readSigningKey(path: string): Promise<SigningKey> {
  const text = (await readOptionFile('--sign-key', path)).toString('utf8');
  const { mode } = await stat(path);
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    const shown = (mode & 0o777).toString(8).padStart(4, '0');
    const message = `--sign-key: ${path} has mode ${shown}, which lets others use the key; run: chmod 600 ${path}`;
    throw new LonglineError('policy', message, { rule: 'private key files' });
  }
  const file = parseKeyFile(text);
  if (file.kind === 'private') return file.key;
  throw new LonglineError(
    'invalid',
    `--sign-key: ${path} holds a public key, which can't sign; give the private key file`,
  );
}

/** The JSON form of a signed job, as `job sign` writes and `--signed` reads it. */
export function signedJobJson(signed: SignedPayload): string {
  return `${JSON.stringify(toJson(SignedPayloadSchema, signed, { useProtoFieldName: true }), undefined, 2)}\n`;
}

/** Reads a signed job, JSON or binary, with the statement in it. The signature is the agent's to verify. */
export async function readSignedJob(
  path: string,
): Promise<{ readonly signed: SignedPayload; readonly statement: Statement }> {
  const bytes = await readOptionFile('--signed', path);
  try {
    const isJson = bytes.toString('utf8', 0, 64).trimStart().startsWith('{');
    const signed = isJson
      ? fromJson(SignedPayloadSchema, JSON.parse(bytes.toString('utf8')))
      : fromBinary(SignedPayloadSchema, bytes);
    if (signed.payloadType !== STATEMENT_PAYLOAD_TYPE)
      throw new Error(`its payload type is ${JSON.stringify(signed.payloadType)}`);
    return { signed, statement: fromBinary(StatementSchema, signed.payload) };
  } catch (error) {
    throw new LonglineError('invalid', `--signed: ${path} holds no signed job: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
