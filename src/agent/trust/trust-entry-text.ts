// Writes entries of trust files, for `longline key trust` and for enrolment.
import { stringify } from 'smol-toml';
import type { AgentSelector } from '../../core/agent-selector.ts';

/** What is to be trusted: a public key, or an HMAC key by its key file. */
export interface TrustGrant {
  readonly keyId: string;
  readonly publicKey: Uint8Array | undefined;
  /** Absolute path of the key file of an HMAC key. */
  readonly secretFile: string | undefined;
  readonly controllers: readonly string[];
  readonly capabilities: readonly string[];
  readonly selectors: readonly AgentSelector[];
  readonly scopes: readonly string[];
  readonly notAfterMs: number | undefined;
}

/** One [[keys]] table, ending in a line end; may be appended to any trust file. */
export function formatTrustEntry(grant: TrustGrant): string {
  const key =
    grant.publicKey === undefined
      ? { algorithm: 'hmac-sha256', secret_file: grant.secretFile ?? '' }
      : { algorithm: 'ed25519', public_key: Buffer.from(grant.publicKey).toString('base64') };
  const entry = {
    key_id: grant.keyId,
    ...key,
    controllers: [...grant.controllers],
    capabilities: [...grant.capabilities],
    ...(grant.scopes.length === 0 ? {} : { scopes: [...grant.scopes] }),
    ...(grant.notAfterMs === undefined ? {} : { not_after: new Date(grant.notAfterMs) }),
    ...(grant.selectors.length === 0 ? {} : { selectors: grant.selectors.map(selectorValue) }),
  };
  return `${stringify({ keys: [entry] }).trimEnd()}\n`;
}

function selectorValue(selector: AgentSelector) {
  return {
    ...(selector.agentIds.length === 0 ? {} : { agent_ids: [...selector.agentIds] }),
    ...(selector.hasLabels.length === 0 ? {} : { has_labels: [...selector.hasLabels] }),
    ...(Object.keys(selector.matchLabels).length === 0 ? {} : { match_labels: { ...selector.matchLabels } }),
  };
}
