// From what engines and sockets say to LonglineErrors. Engines give little beyond a status and a sentence, so the
// sentences of Docker and Podman that decide a reason are collected here and nowhere else.
import { LonglineError, type Reason } from '../../core/errors.ts';

const MESSAGE_LIMIT = 1000;

/** An answer with a status that means failure. */
export interface EngineRefusal {
  readonly status: number;
  readonly message: string;
}

const UNREACHABLE = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENOTSOCK']);

/** The error for a refusal; `what` is the step that failed, for example "create container job-1". */
export function refusalError(what: string, refusal: EngineRefusal): LonglineError {
  const text = shorten(refusal.message);
  return new LonglineError(refusalReason(refusal), `${what}: the container engine says: ${text}`);
}

/** The error for a fault of the connection to the engine at `where`. */
export function connectionError(what: string, where: string, thrown: unknown): LonglineError {
  if (thrown instanceof LonglineError) return thrown;
  const code = (thrown as NodeJS.ErrnoException | null)?.code;
  const lost = `${what}: the container engine at ${where}`;
  if (code === 'EACCES' || code === 'EPERM') {
    return new LonglineError('unavailable', `${lost} may not be used by this user; run the agent as root`, {
      cause: thrown,
    });
  }
  if (code === 'ECONNREFUSED' || code === 'ENOENT') {
    return new LonglineError('unavailable', `${lost} can't be reached (${code}); is it running?`, { cause: thrown });
  }
  if (code !== undefined && (UNREACHABLE.has(code) || code.startsWith('ERR_TLS') || code.startsWith('ERR_STREAM'))) {
    return new LonglineError('unavailable', `${lost} broke the connection (${code})`, { cause: thrown });
  }
  return new LonglineError('unavailable', `${lost} gave no usable answer`, { cause: thrown });
}

/** The error that a registry's or engine's sentence about a failed pull stands for. */
export function pullError(reference: string, message: string): LonglineError {
  return new LonglineError(pullReason(message), `image ${JSON.stringify(reference)}: ${shorten(message)}`);
}

/** True if the engine refused to signal a container because it doesn't run. */
export function saysNotRunning(refusal: EngineRefusal): boolean {
  if (refusal.status !== 409 && refusal.status !== 500) return false;
  return /is not running|can only kill running containers|container state improper|process already finished|no such process/i.test(
    refusal.message,
  );
}

/** True if the engine is removing the container already. */
export function saysRemovalInProgress(refusal: EngineRefusal): boolean {
  return refusal.status === 409 && /removal of container .* is already in progress/i.test(refusal.message);
}

function refusalReason({ status, message }: EngineRefusal): Reason {
  if (/no space left on device|disk quota exceeded|ENOSPC/i.test(message)) return 'limit';
  if (/OCI runtime|executable file not found|runc|exec format error|exec: /i.test(message)) return 'invalid';
  if (/(?:name|container name) .* is already in use/i.test(message)) return 'already_exists';
  if (/no such (?:container|image)|image not known|no container with name or id/i.test(message)) return 'not_found';
  switch (status) {
    case 400:
      return 'invalid';
    case 401:
      return 'identity';
    case 403:
      return 'policy';
    case 404:
      return 'not_found';
    case 409:
      return 'wrong_state';
    case 429:
      return 'limit';
    case 501:
      return 'unsupported';
    case 502:
    case 503:
    case 504:
      return 'unavailable';
    default:
      return /invalid|unknown runtime|must be|not supported|unknown (?:capability|network)/i.test(message)
        ? 'invalid'
        : 'internal';
  }
}

function pullReason(message: string): Reason {
  if (/no space left on device|disk quota exceeded/i.test(message)) return 'limit';
  if (/toomanyrequests|too many requests|rate limit/i.test(message)) return 'limit';
  if (/unauthorized|authentication required|no basic auth|denied|invalid username|forbidden/i.test(message)) {
    return 'identity';
  }
  if (/manifest unknown|name unknown|not found|does not exist|no such image|no matching manifest/i.test(message)) {
    // "no such host" and the like also say "not found" in some resolvers, and are worth another try.
    return /no such host|lookup /i.test(message) ? 'unavailable' : 'not_found';
  }
  if (/invalid reference|invalid tag|repository name must be/i.test(message)) return 'invalid';
  return 'unavailable';
}

function shorten(message: string): string {
  const line = message.replace(/\s+/g, ' ').trim();
  return line.length > MESSAGE_LIMIT ? `${line.slice(0, MESSAGE_LIMIT)}…` : line || '(nothing)';
}
