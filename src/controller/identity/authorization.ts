// Which role each method of the public port needs, and the interceptor that enforces it. The table is exhaustive: a method
// without an entry is refused, so that a new one can't be left open by oversight.
import type { Message } from '@bufbuild/protobuf';
import {
  ConnectError,
  type ContextValues,
  createContextKey,
  type HandlerContext,
  type Interceptor,
} from '@connectrpc/connect';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { ApiTokens, Caller } from './api-tokens.ts';
import type { Role } from './ports.ts';
import { redacted } from './redaction.ts';

/** What a method needs: a role, or nothing. */
export type Requirement = Role | 'public';

const RANK: Readonly<Record<Requirement, number>> = { public: 0, viewer: 1, operator: 2, admin: 3 };

const AGENTS = 'longline.fleet.v1.AgentService';
const JOBS = 'longline.fleet.v1.JobService';
const NETWORKS = 'longline.fleet.v1.NetworkService';
const PROGRAMS = 'longline.fleet.v1.ProgramService';
const SESSIONS = 'longline.fleet.v1.SessionService';
const TOKENS = 'longline.fleet.v1.TokenService';

/** Requirement of every method, by "service/method". Public ones carry their own proof, or tell nothing of the fleet. */
export const REQUIREMENTS: Readonly<Record<string, Requirement>> = {
  [`${AGENTS}/ListAgents`]: 'viewer',
  [`${AGENTS}/GetAgent`]: 'viewer',
  [`${AGENTS}/WatchAgents`]: 'viewer',
  [`${AGENTS}/LabelAgent`]: 'operator',
  [`${AGENTS}/DrainAgent`]: 'operator',
  [`${AGENTS}/RevokeAgent`]: 'admin',
  [`${AGENTS}/DeleteAgent`]: 'admin',
  [`${AGENTS}/ListAuditCheckpoints`]: 'viewer',
  [`${AGENTS}/ListEvents`]: 'viewer',
  [`${AGENTS}/WatchEvents`]: 'viewer',
  [`${JOBS}/RunJob`]: 'operator',
  [`${JOBS}/SubmitJob`]: 'operator',
  [`${JOBS}/GetJob`]: 'viewer',
  [`${JOBS}/ListJobs`]: 'viewer',
  [`${JOBS}/CancelJob`]: 'operator',
  [`${JOBS}/TailLogs`]: 'viewer',
  [`${JOBS}/WaitResult`]: 'viewer',
  [`${JOBS}/WriteInput`]: 'operator',
  [`${SESSIONS}/StartSession`]: 'operator',
  [`${SESSIONS}/SubmitSession`]: 'operator',
  [`${SESSIONS}/GetSession`]: 'viewer',
  [`${SESSIONS}/ListSessions`]: 'viewer',
  [`${SESSIONS}/WatchSessions`]: 'viewer',
  [`${SESSIONS}/StopSession`]: 'operator',
  [`${SESSIONS}/HibernateSession`]: 'operator',
  [`${SESSIONS}/WakeSession`]: 'operator',
  [`${SESSIONS}/GetSessionUsage`]: 'viewer',
  [`${SESSIONS}/ListSessionUsage`]: 'viewer',
  [`${SESSIONS}/TailSessionLogs`]: 'viewer',
  [`${SESSIONS}/Tunnel`]: 'operator',
  [`${SESSIONS}/CreateTunnelTicket`]: 'operator',
  [`${SESSIONS}/PutTemplate`]: 'operator',
  [`${SESSIONS}/GetTemplate`]: 'viewer',
  [`${SESSIONS}/ListTemplates`]: 'viewer',
  [`${SESSIONS}/DeleteTemplate`]: 'operator',
  [`${NETWORKS}/PutNetwork`]: 'operator',
  [`${NETWORKS}/DeleteNetwork`]: 'operator',
  [`${NETWORKS}/GetNetwork`]: 'viewer',
  [`${NETWORKS}/ListNetworks`]: 'viewer',
  [`${NETWORKS}/WatchNetworks`]: 'viewer',
  [`${NETWORKS}/PutMesh`]: 'operator',
  [`${NETWORKS}/GetMesh`]: 'viewer',
  [`${NETWORKS}/ListMeshes`]: 'viewer',
  [`${NETWORKS}/DeleteMesh`]: 'operator',
  [`${NETWORKS}/JoinMesh`]: 'operator',
  [`${NETWORKS}/LeaveMesh`]: 'operator',
  [`${NETWORKS}/RotateKey`]: 'operator',
  [`${NETWORKS}/UndoRotation`]: 'operator',
  [`${NETWORKS}/ListRotations`]: 'viewer',
  [`${PROGRAMS}/UploadArtifact`]: 'operator',
  [`${PROGRAMS}/DownloadArtifact`]: 'viewer',
  [`${PROGRAMS}/GetArtifact`]: 'viewer',
  [`${PROGRAMS}/ListArtifacts`]: 'viewer',
  [`${PROGRAMS}/DeleteArtifact`]: 'operator',
  [`${PROGRAMS}/PutProgram`]: 'operator',
  [`${PROGRAMS}/DeleteProgram`]: 'operator',
  [`${PROGRAMS}/GetProgram`]: 'viewer',
  [`${PROGRAMS}/ListPrograms`]: 'viewer',
  [`${PROGRAMS}/WatchPrograms`]: 'viewer',
  [`${PROGRAMS}/RollBackProgram`]: 'operator',
  [`${PROGRAMS}/ReleaseQuarantine`]: 'operator',
  [`${PROGRAMS}/ListRollbacks`]: 'viewer',
  [`${PROGRAMS}/PutAssignment`]: 'operator',
  [`${PROGRAMS}/GetAssignment`]: 'viewer',
  [`${PROGRAMS}/ListAssignments`]: 'viewer',
  [`${PROGRAMS}/DeleteAssignment`]: 'operator',
  [`${PROGRAMS}/GetRollout`]: 'viewer',
  [`${PROGRAMS}/ListRollouts`]: 'viewer',
  [`${PROGRAMS}/WatchRollout`]: 'viewer',
  [`${PROGRAMS}/PauseRollout`]: 'operator',
  [`${PROGRAMS}/ResumeRollout`]: 'operator',
  [`${PROGRAMS}/AbortRollout`]: 'operator',
  [`${TOKENS}/CreateEnrollmentToken`]: 'admin',
  [`${TOKENS}/ListEnrollmentTokens`]: 'admin',
  [`${TOKENS}/RevokeEnrollmentToken`]: 'admin',
  [`${TOKENS}/CreateApiToken`]: 'admin',
  [`${TOKENS}/ListApiTokens`]: 'admin',
  [`${TOKENS}/RevokeApiToken`]: 'admin',
  [`${TOKENS}/CreateAgentKey`]: 'admin',
  'longline.link.v1.EnrollmentService/Enroll': 'public',
  'longline.link.v1.EnrollmentService/Renew': 'public',
  'grpc.health.v1.Health/Check': 'public',
  'grpc.health.v1.Health/Watch': 'public',
  'grpc.health.v1.Health/List': 'public',
  'grpc.reflection.v1.ServerReflection/ServerReflectionInfo': 'public',
  'grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo': 'public',
};

/** Slows down guessing over one connection. */
export interface FailureLimit {
  /** Milliseconds until another try is heard; 0 if one is heard now. */
  waitMs(): number;
  /** Counts a failed try. */
  failed(): void;
}

const callerKey = createContextKey<Caller | undefined>(undefined, { description: 'caller' });
const failureLimitKey = createContextKey<FailureLimit | undefined>(undefined, { description: 'failure limit' });

/** How often a long-lived answer looks whether its caller's token still holds. */
const RECHECK_MS = 10_000;

/** The caller of a method that needs a role. Throws `internal` when called from a public method. */
export function callerOf(context: Pick<HandlerContext, 'values'>): Caller {
  const caller = context.values.get(callerKey);
  if (caller === undefined) throw new LonglineError('internal', 'this method is public: it has no caller');
  return caller;
}

/** Binds the failure limit of a connection to the calls made over it. */
export function setFailureLimit(values: ContextValues, limit: FailureLimit): void {
  values.set(failureLimitKey, limit);
}

/** Interceptor that authenticates the caller and checks its role; it puts the caller into the context values. */
export function authorize(tokens: ApiTokens, clock: Clock): Interceptor {
  return (next) => async (request) => {
    const name = `${request.service.typeName}/${request.method.name}`;
    const required = REQUIREMENTS[name];
    if (required === undefined)
      throw new LonglineError('policy', `${name} is open to nobody`, { rule: 'method roles' });
    const limit = request.contextValues.get(failureLimitKey);
    const waitMs = limit?.waitMs() ?? 0;
    if (waitMs > 0) {
      throw new LonglineError('limit', 'too many failed authentications on this connection', { retryAfterMs: waitMs });
    }
    let hide = true;
    const identify = async (): Promise<void> => {
      const caller = await tokens.authenticate(request.header.get('authorization'));
      requireRole(caller, required, name);
      request.contextValues.set(callerKey, caller);
      hide = caller.role === 'viewer';
    };
    try {
      if (required !== 'public') await identify();
      const response = await next(request);
      if (required === 'public') return response;
      const shown = <T extends Message>(message: T): T => (hide ? redacted(request.method.output, message) : message);
      if (!response.stream) return { ...response, message: shown(response.message) };
      return { ...response, message: mapped(rechecked(response.message, identify, clock), shown) };
    } catch (error) {
      if (isIdentity(error)) limit?.failed();
      throw error;
    }
  };
}

async function* rechecked<T>(
  messages: AsyncIterable<T>,
  identify: () => Promise<void>,
  clock: Clock,
): AsyncGenerator<T> {
  let checkedAtMs = clock.monotonic();
  for await (const message of messages) {
    if (clock.monotonic() - checkedAtMs > RECHECK_MS) {
      await identify();
      checkedAtMs = clock.monotonic();
    }
    yield message;
  }
}

async function* mapped<T>(messages: AsyncIterable<T>, change: (message: T) => T): AsyncGenerator<T> {
  for await (const message of messages) yield change(message);
}

function isIdentity(error: unknown): boolean {
  if (error instanceof LonglineError) return error.reason === 'identity';
  return error instanceof ConnectError && error.cause instanceof LonglineError && error.cause.reason === 'identity';
}

/** Throws `policy` unless the caller's role is at least the one required. `what` is for the message. */
export function requireRole(caller: Caller, required: Requirement, what: string): void {
  if (RANK[caller.role] >= RANK[required]) return;
  const message = `${what} needs role ${required}; API token "${caller.name}" has role ${caller.role}`;
  throw new LonglineError('policy', message, { rule: `role ${required}` });
}
