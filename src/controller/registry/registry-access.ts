// Who asks the registry: somebody with an API token, or an agent, by its client certificate or its API key. Told anew for every
// request, so that a revocation takes effect at once.
import type { IncomingHttpHeaders } from 'node:http';
import { LonglineError } from '../../core/errors.ts';
import { connectionOf } from '../front/connection.ts';
import type { HttpRequest } from '../front/http-handlers.ts';
import type { AgentAuthenticator } from '../identity/agent-authentication.ts';
import type { ApiTokens, Caller } from '../identity/api-tokens.ts';

/** Who asks. */
export type Asker =
  | { readonly kind: 'token'; readonly caller: Caller }
  | { readonly kind: 'agent'; readonly agentId: string };

/** Tells who it is. */
export interface RegistryIdentities {
  readonly agents: Pick<AgentAuthenticator, 'verify' | 'byApiKey'>;
  readonly tokens: Pick<ApiTokens, 'authenticate'>;
}

/** Who makes a request. Throws `identity`, and `limit` after too many failures over one connection. */
export async function askerOf(request: HttpRequest, identities: RegistryIdentities): Promise<Asker> {
  const connection = connectionOf(request.socket);
  const waitMs = connection?.failureLimit.waitMs() ?? 0;
  if (waitMs > 0) {
    throw new LonglineError('limit', 'too many failed authentications on this connection', { retryAfterMs: waitMs });
  }
  try {
    const only = connection?.agents;
    if (only !== undefined && only !== 'by_api_key') return agent(await identities.agents.verify(only));
    const { authorization } = request.headers;
    const agentId = header(request.headers, 'longline-agent-id') ?? (only && '');
    if (agentId !== undefined) return agent(await identities.agents.byApiKey(agentId, authorization));
    return { kind: 'token', caller: await identities.tokens.authenticate(authorization ?? null) };
  } catch (error) {
    if (error instanceof LonglineError && error.reason === 'identity') connection?.failureLimit.failed();
    throw error;
  }
}

function agent({ agentId }: { readonly agentId: string }): Asker {
  return { kind: 'agent', agentId };
}

/** A header that was sent once; undefined if it wasn't. */
export function header(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : undefined;
}
