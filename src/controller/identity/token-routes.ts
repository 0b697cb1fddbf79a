// TokenService: registration tokens, API tokens and agents' API keys. Checks requests and turns records into messages;
// what a token is lives in secrets.ts and the repositories.
import { create } from '@bufbuild/protobuf';
import { type Duration, durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import {
  type ApiToken,
  ApiTokenSchema,
  type CreateEnrollmentTokenRequest,
  type EnrollmentToken,
  EnrollmentTokenSchema,
  Role as RoleNumber,
  type TokenService,
} from '#gen/longline/fleet/v1/token_service_pb.js';
import type { Clock } from '../../core/clock.ts';
import { formatEnrollmentToken } from '../../core/enrollment-token.ts';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { AGENT_ID, isUuid, newId } from '../../core/ids.ts';
import { type AgentKeys, checkLabels } from './agent-keys.ts';
import type { ApiTokens } from './api-tokens.ts';
import type { ApiTokenRecord, EnrollmentTokenRecord, IdentityRepositories, PageRequest, Role } from './ports.ts';
import { hashSecret, newSecret } from './secrets.ts';

const HOUR_MS = 3_600_000;
const MAX_TOKEN_TTL_MS = 30 * 24 * HOUR_MS;
const MAX_API_TOKEN_TTL_MS = 100 * 365 * 24 * HOUR_MS;
const MAX_USES = 10_000;
const ROLES: Readonly<Record<Role, RoleNumber>> = {
  viewer: RoleNumber.VIEWER,
  operator: RoleNumber.OPERATOR,
  admin: RoleNumber.ADMIN,
};

/** What the service is made from. */
export interface TokenRoutesOptions {
  readonly repositories: Pick<IdentityRepositories, 'enrollmentTokens' | 'apiTokens'>;
  readonly apiTokens: ApiTokens;
  readonly agentKeys: AgentKeys;
  /** SHA-256 of the CA certificate, bound into registration tokens. */
  readonly pin: Uint8Array;
  readonly clock: Clock;
}

/** The implementation of TokenService. */
export function tokenRoutes(options: TokenRoutesOptions): ServiceImpl<typeof TokenService> {
  const { repositories, apiTokens, agentKeys, pin, clock } = options;
  const { enrollmentTokens, apiTokens: apiTokenRepository } = repositories;
  return {
    async createEnrollmentToken(request) {
      const secret = newSecret();
      const record = newEnrollmentToken(request, secret, clock.now());
      await enrollmentTokens.insert(record);
      return {
        token: formatEnrollmentToken({ secret, caSha256: pin }),
        enrollmentToken: enrollmentTokenMessage(record),
      };
    },
    async listEnrollmentTokens(request) {
      const { items, nextPageToken } = await listPage(request, (page) => enrollmentTokens.list(page));
      return { enrollmentTokens: items.map(enrollmentTokenMessage), nextPageToken };
    },
    async revokeEnrollmentToken({ id }) {
      if (!(await enrollmentTokens.revoke(id))) throw missing('registration token', id);
      return {};
    },
    async createApiToken(request) {
      const role = (Object.keys(ROLES) as Role[]).find((name) => ROLES[name] === request.role);
      const violations = apiTokenViolations(request.name, role, request.role);
      const ttlMs = durationField('ttl', request.ttl, MAX_API_TOKEN_TTL_MS, '100 years', violations);
      if (violations.length > 0) throw invalid(violations);
      const { token, record } = await apiTokens.create(request.name, role!, ttlMs);
      return { token, apiToken: apiTokenMessage(record) };
    },
    async listApiTokens(request) {
      const { items, nextPageToken } = await listPage(request, (page) => apiTokenRepository.list(page));
      return { apiTokens: items.map(apiTokenMessage), nextPageToken };
    },
    async revokeApiToken({ id }) {
      if (!(await apiTokenRepository.revoke(id))) throw missing('API token', id);
      return {};
    },
    async createAgentKey({ agentId, labels }) {
      return { apiKey: await agentKeys.create(agentId, labels) };
    },
  };
}

function newEnrollmentToken(
  request: CreateEnrollmentTokenRequest,
  secret: string,
  nowMs: number,
): EnrollmentTokenRecord {
  const violations: FieldViolation[] = checkLabels(request.labels);
  const ttlMs = durationField('ttl', request.ttl, MAX_TOKEN_TTL_MS, '30 days', violations) ?? HOUR_MS;
  const uses = request.uses === 0 ? 1 : request.uses;
  if (uses > MAX_USES) violations.push({ field: 'uses', description: `is ${uses}; it must be 1 to ${MAX_USES}` });
  if (request.agentId !== '' && !AGENT_ID.test(request.agentId)) {
    const description = `is ${JSON.stringify(request.agentId.slice(0, 140))}; it must be empty or 1 to 128 characters of [A-Za-z0-9._-]`;
    violations.push({ field: 'agent_id', description });
  }
  if (violations.length > 0) throw invalid(violations);
  return {
    id: newId(nowMs),
    secretHash: hashSecret(secret),
    usesTotal: uses,
    usesLeft: uses,
    labels: { ...request.labels },
    agentId: request.agentId,
    createdAtMs: nowMs,
    expiresAtMs: nowMs + ttlMs,
    revoked: false,
  };
}

function apiTokenViolations(name: string, role: Role | undefined, given: number): FieldViolation[] {
  const violations: FieldViolation[] = [];
  // Control characters would forge lines where the name is shown as creator.
  if (!/^[^\p{Cc}]{1,64}$/u.test(name)) {
    violations.push({
      field: 'name',
      description: `is ${JSON.stringify(name.slice(0, 70))}; it must be 1 to 64 printable characters`,
    });
  }
  if (role === undefined) {
    violations.push({
      field: 'role',
      description: `is ${RoleNumber[given] ?? given}; it must be VIEWER, OPERATOR or ADMIN`,
    });
  }
  return violations;
}

function durationField(
  field: string,
  value: Duration | undefined,
  maxMs: number,
  maxText: string,
  violations: FieldViolation[],
): number | undefined {
  if (value === undefined) return undefined;
  const ms = durationMs(value);
  if (ms >= 1000 && ms <= maxMs) return ms;
  violations.push({ field, description: `is ${ms / 1000} s; it must be 1 s to ${maxText}` });
  return undefined;
}

interface Listing {
  readonly pageSize: number;
  readonly pageToken: string;
}

async function listPage<T extends { readonly id: string }>(
  { pageSize, pageToken }: Listing,
  list: (page: PageRequest) => Promise<readonly T[]>,
): Promise<{ readonly items: readonly T[]; readonly nextPageToken: string }> {
  const violations: FieldViolation[] = [];
  if (pageSize < 0 || pageSize > 1000)
    violations.push({ field: 'page_size', description: `is ${pageSize}; it must be 0 to 1000` });
  if (pageToken !== '' && !isUuid(pageToken)) {
    violations.push({
      field: 'page_token',
      description: 'is none that a listing gave; leave it empty for the first page',
    });
  }
  if (violations.length > 0) throw invalid(violations);
  const size = pageSize === 0 ? 100 : pageSize;
  // One more than asked for tells whether there is another page.
  const found = await list({ limit: size + 1, beforeId: pageToken === '' ? undefined : pageToken });
  const items = found.slice(0, size);
  return { items, nextPageToken: found.length > size ? items.at(-1)!.id : '' };
}

function enrollmentTokenMessage(record: EnrollmentTokenRecord): EnrollmentToken {
  const { id, usesLeft, usesTotal, labels, revoked, agentId } = record;
  return create(EnrollmentTokenSchema, {
    id,
    usesLeft,
    usesTotal,
    labels: { ...labels },
    revoked,
    agentId,
    expireTime: timestampFromMs(record.expiresAtMs),
    createTime: timestampFromMs(record.createdAtMs),
  });
}

function apiTokenMessage({ id, name, role, revoked, expiresAtMs, createdAtMs, usedAtMs }: ApiTokenRecord): ApiToken {
  return create(ApiTokenSchema, {
    id,
    name,
    role: ROLES[role],
    revoked,
    createTime: timestampFromMs(createdAtMs),
    ...(expiresAtMs === undefined ? {} : { expireTime: timestampFromMs(expiresAtMs) }),
    ...(usedAtMs === undefined ? {} : { useTime: timestampFromMs(usedAtMs) }),
  });
}

function missing(what: string, id: string): LonglineError {
  return new LonglineError('not_found', `id: there is no ${what} ${JSON.stringify(id.slice(0, 60))}`);
}
