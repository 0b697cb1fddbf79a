// Makes the keys of this host from its settings.
import { readFile } from 'node:fs/promises';
import { canonicalJson } from '../../core/canonical-json.ts';
import type { Clock } from '../../core/clock.ts';
import type { Resolved } from '../../core/config/setting.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { VaultLogin } from '../../platform/vault/vault-client.ts';
import type { VaultKeyPlaces, VaultKeys } from '../../platform/vault/vault-keys.ts';
import type { keySettings, vaultSettings } from '../program-service-settings.ts';
import { HostKeys } from './artifact-keys.ts';
import { keyCopyFile } from './key-copy-file.ts';

/** What is needed beside the settings. */
export interface KeysSetup {
  readonly keys: Resolved<typeof keySettings>;
  readonly vault: Resolved<typeof vaultSettings>;
  /** Where the copy of Vault's keys is, in a folder of the agent's that is there. */
  readonly copyPath: string;
  readonly clock: Clock;
  readonly log: Logger;
}

const REQUEST_MS = 5000;
/** What is read from KV if nothing is named. */
const DEFAULT_KV_PATH = 'longline/artifact-keys';

/** The owner disposes them. Throws `not_found`, `unavailable` or `invalid` if the settings name a file that can't be used. */
export async function openHostKeys(setup: KeysSetup): Promise<HostKeys> {
  const vault = await openVaultKeys(setup);
  const { keys, clock, log } = setup;
  return new HostKeys({ inline: keys.publicKey, paths: keys.files, vault, clock, log });
}

async function openVaultKeys({ vault, copyPath, clock, log }: KeysSetup): Promise<VaultKeys | undefined> {
  const { url, namespace, caFile } = vault;
  if (url === undefined) return undefined;
  // Most hosts have none: its client is not even loaded there.
  const { VaultClient } = await import('../../platform/vault/vault-client.ts');
  const { VaultKeys: Keys } = await import('../../platform/vault/vault-keys.ts');
  const places = placesOf(vault);
  const ca = caFile === undefined ? undefined : await readAuthorities(caFile);
  const monotonic = () => clock.monotonic();
  const baseUrl = url.replace(/\/+$/, '');
  return new Keys({
    client: new VaultClient({ url: baseUrl, namespace, ca, timeoutMs: REQUEST_MS, login: loginOf(vault), monotonic }),
    places,
    identity: canonicalJson({ url: baseUrl, namespace: namespace ?? null, places }),
    copy: keyCopyFile(copyPath),
    clock,
    log,
  });
}

function placesOf(vault: KeysSetup['vault']): VaultKeyPlaces {
  const path = vault.kvPath ?? (vault.transitKeys.length === 0 ? DEFAULT_KV_PATH : undefined);
  const version = vault.kvVersion === 1 ? 1 : 2;
  return {
    transit: { mount: vault.transitMount, names: vault.transitKeys },
    kv: path === undefined ? [] : [{ mount: vault.kvMount, path, version }],
  };
}

function loginOf({ token, roleId, secretId, appRoleMount }: KeysSetup['vault']): VaultLogin {
  if (token !== undefined) return { kind: 'token', token: token.reveal() };
  if (roleId !== undefined) return { kind: 'approle', roleId, secretId: secretId?.reveal(), mount: appRoleMount };
  throw new LonglineError('invalid', 'programs.vault_url needs programs.vault_token or programs.vault_role_id');
}

async function readAuthorities(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const message = `programs.vault_ca_file: can't read ${path}: ${(error as Error).message}`;
    throw new LonglineError(missing ? 'not_found' : 'unavailable', message, { cause: error });
  }
}
