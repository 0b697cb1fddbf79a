// API keys of agents that connect where TLS ends elsewhere. One per agent, stored hashed, ended by revoking the agent.
import type { Clock } from '../../core/clock.ts';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { AGENT_ID } from '../../core/ids.ts';
import type { AgentIdentity, AgentIdentityRepository } from './ports.ts';
import { hashSecret, newAgentApiKey } from './secrets.ts';

const MAX_TRIES = 5;
const MAX_LABELS = 64;
const LABEL_KEY = /^[A-Za-z0-9._/-]{1,63}$/;

/** Makes agents' API keys. */
export class AgentKeys {
  readonly #identities: AgentIdentityRepository;
  readonly #clock: Clock;

  constructor(identities: AgentIdentityRepository, clock: Clock) {
    this.#identities = identities;
    this.#clock = clock;
  }

  /** A new key for an agent, in place of the one it had; makes the agent, with these labels, if there is none. */
  async create(agentId: string, labels: Readonly<Record<string, string>>): Promise<string> {
    const violations = checkLabels(labels);
    if (!AGENT_ID.test(agentId)) {
      const description = `is ${JSON.stringify(agentId.slice(0, 140))}; it must be 1 to 128 characters of [A-Za-z0-9._-]`;
      violations.push({ field: 'agent_id', description });
    }
    if (violations.length > 0) throw invalid(violations);
    const key = newAgentApiKey();
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const found = await this.#identities.find(agentId);
      if (found?.revoked) {
        throw new LonglineError(
          'wrong_state',
          `agent_id: ${agentId} was revoked; delete that agent before the id is used again`,
        );
      }
      const nowMs = this.#clock.now();
      const identity = {
        ...(found ?? blank(agentId, labels, nowMs)),
        apiKeyHash: hashSecret(key),
        version: (found?.version ?? 0) + 1,
      };
      if ((await this.#identities.save({ identity, spendTokenId: undefined, nowMs })) === 'saved') return key;
    }
    throw new LonglineError('unavailable', `agent ${agentId} is being changed by others; try again`, {
      retryAfterMs: 1000,
    });
  }
}

function blank(agentId: string, labels: Readonly<Record<string, string>>, nowMs: number): AgentIdentity {
  return {
    agentId,
    instanceId: '',
    labels: { ...labels },
    enrolledAtMs: nowMs,
    enrollmentTokenId: '',
    publicKeyHash: undefined,
    certificates: [],
    apiKeyHash: undefined,
    revoked: false,
    version: 0,
  };
}

/** What is wrong with labels that are to be set, by the rules of AgentService.LabelAgent. */
export function checkLabels(labels: Readonly<Record<string, string>>): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS)
    violations.push({ field: 'labels', description: `are ${entries.length}; at most ${MAX_LABELS} may be set` });
  for (const [key, value] of entries) {
    const field = `labels[${JSON.stringify(key.slice(0, 70))}]`;
    if (!LABEL_KEY.test(key))
      violations.push({ field, description: 'its key must be 1 to 63 characters of [A-Za-z0-9._/-]' });
    if (value.length > 255)
      violations.push({ field, description: `its value has ${value.length} characters; at most 255 are allowed` });
  }
  return violations.slice(0, 20);
}
