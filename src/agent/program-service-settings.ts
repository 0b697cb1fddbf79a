// Services that programs come from, are checked with and are told to: registry, keys, Vault, NATS. None is asked unless it is named.
import { type ConfigConflict, type Resolved, secret, setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';

const REGISTRY = 'Registry of programs';
/** Heading of all that says whose artifacts are loaded. */
export const KEYS = 'Keys of programs';
const NATS = 'Programs over NATS';

const registryUrl = type.scalar<string>({
  name: 'URL',
  placeholder: 'URL',
  allowed: 'a URL that starts with https:// or http://, or "controller" for that of the controller; empty for none',
  text: (text) => {
    if (text === '' || text === 'controller') return text;
    const url = /^https?:\/\/[^\s?#]+$/i.test(text) ? URL.parse(text) : null;
    return url !== null && url.username === '' && url.password === '' ? url.href.replace(/\/+$/, '') : undefined;
  },
  write: (text) => JSON.stringify(text),
});

/** Registry that is polled. */
export const registrySettings = {
  url: setting(registryUrl, {
    key: 'programs.registry_url',
    group: REGISTRY,
    envAliases: ['AGENT_REGISTRY_URL'],
    default: '',
    description:
      "Registry that is asked for programs of this host; controller: the controller's, with this agent's identity.",
  }),
  dialect: setting(type.oneOf(['longline', 'aegisflux']), {
    key: 'programs.registry_dialect',
    group: REGISTRY,
    default: 'longline',
    description: 'What that registry speaks: as ours, or as the BPF registry of AegisFlux.',
  }),
  token: secret({
    key: 'programs.registry_token',
    group: REGISTRY,
    description: 'Bearer token for the registry.',
  }),
  caFile: setting(type.path(), {
    key: 'programs.registry_ca_file',
    group: REGISTRY,
    example: '"/etc/longline/registry-ca.pem"',
    description: 'PEM file of the CAs that the registry is trusted by; without it those of the system.',
  }),
  certificateFile: setting(type.path(), {
    key: 'programs.registry_cert_file',
    group: REGISTRY,
    example: '"/etc/longline/registry.crt"',
    description: 'PEM file of a client certificate for the registry, with its chain.',
  }),
  keyFile: setting(type.path(), {
    key: 'programs.registry_key_file',
    group: REGISTRY,
    example: '"/etc/longline/registry.key"',
    description: 'PEM file of its private key, readable by its owner only.',
  }),
} as const;

/** Keys of this host. */
export const keySettings = {
  publicKey: setting(type.string({ placeholder: 'KEY' }), {
    key: 'programs.public_key',
    group: KEYS,
    envAliases: ['AGENT_PUBLIC_KEY'],
    example: '"MCowBQYDK2VwAyEA…"',
    description: 'Public key that artifacts are signed with: PEM, base64, or what a public key file holds.',
  }),
  files: setting(type.list(type.path()), {
    key: 'programs.key_files',
    flag: '--programs-key-file',
    group: KEYS,
    default: [],
    description: 'Files of further public keys; each may hold several.',
  }),
} as const;

const name = (placeholder: string) =>
  type.string({ pattern: /^[A-Za-z0-9._-]{1,128}$/, allowed: 'a name of 1 to 128 of A-Z a-z 0-9 . _ -', placeholder });
const vaultPath = type.string({
  pattern: /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/,
  allowed: 'a path without a slash at its ends',
  placeholder: 'PATH',
});

/** Vault that keys are read from. */
export const vaultSettings = {
  url: setting(type.url(['https', 'http']), {
    key: 'programs.vault_url',
    group: KEYS,
    envAliases: ['AGENT_VAULT_URL'],
    example: '"https://vault.example.net:8200"',
    description: 'Vault that public keys are read from.',
  }),
  token: secret({
    key: 'programs.vault_token',
    group: KEYS,
    envAliases: ['AGENT_VAULT_TOKEN'],
    description: 'Token for Vault.',
  }),
  roleId: setting(name('ID'), {
    key: 'programs.vault_role_id',
    group: KEYS,
    example: '"59d6d1ca-47bb-4e7e-a40b-8be3bc5a0ba8"',
    description: 'AppRole to log in to Vault with, instead of a token.',
  }),
  secretId: secret({
    key: 'programs.vault_secret_id',
    group: KEYS,
    description: 'Secret id of that role.',
  }),
  appRoleMount: setting(vaultPath, {
    key: 'programs.vault_approle_mount',
    group: KEYS,
    default: 'approle',
    description: 'Where AppRole is mounted.',
  }),
  namespace: setting(vaultPath, {
    key: 'programs.vault_namespace',
    group: KEYS,
    example: '"teams/edge"',
    description: 'Namespace in Vault.',
  }),
  caFile: setting(type.path(), {
    key: 'programs.vault_ca_file',
    group: KEYS,
    example: '"/etc/longline/vault-ca.pem"',
    description: 'PEM file of the CAs that Vault is trusted by; without it those of the system.',
  }),
  transitMount: setting(vaultPath, {
    key: 'programs.vault_transit_mount',
    group: KEYS,
    default: 'transit',
    description: 'Where the transit engine is mounted.',
  }),
  transitKeys: setting(type.list(name('NAME')), {
    key: 'programs.vault_transit_keys',
    flag: '--programs-vault-transit-key',
    group: KEYS,
    default: [],
    description: 'Keys of the transit engine whose public part artifacts are checked with.',
  }),
  kvMount: setting(vaultPath, {
    key: 'programs.vault_kv_mount',
    group: KEYS,
    default: 'secret',
    description: 'Where the KV engine is mounted.',
  }),
  kvVersion: setting(type.int({ min: 1, max: 2 }), {
    key: 'programs.vault_kv_version',
    group: KEYS,
    default: 2,
    description: 'Version of that engine.',
  }),
  kvPath: setting(vaultPath, {
    key: 'programs.vault_kv_path',
    group: KEYS,
    example: '"longline/artifact-keys"',
    defaultText: 'longline/artifact-keys, unless there are transit keys',
    description: 'Entry of the KV engine that holds public keys, by name.',
  }),
} as const;

const plainNatsUrl = type.url(['nats', 'tls']);
/** May hold a password or a token, which is not told where settings are shown. */
const natsUrl: typeof plainNatsUrl = {
  ...plainNatsUrl,
  toToml: (url) => plainNatsUrl.toToml(url.replace(/^([a-z]+:\/\/)[^/]*@/, '$1[redacted]@')),
};

/** NATS that programs are told of through. */
export const natsSettings = {
  urls: setting(type.list(natsUrl), {
    key: 'programs.nats_url',
    group: NATS,
    envAliases: ['AGENT_NATS_URL'],
    default: [],
    description: 'Servers of NATS that figures and events of programs are also told to. Empty: none.',
  }),
  telemetrySubject: setting(
    type.string({
      pattern: /^[^\s.*>]+(\.[^\s.*>]+)*$/,
      allowed: 'a subject without wildcards',
      placeholder: 'SUBJECT',
    }),
    {
      key: 'programs.telemetry_subject',
      group: NATS,
      envAliases: ['AGENT_TELEMETRY_SUBJECT'],
      default: 'agent.telemetry',
      description: 'Subject that they are told under.',
    },
  ),
  credentialsFile: setting(type.path(), {
    key: 'programs.nats_credentials_file',
    group: NATS,
    example: '"/etc/longline/nats.creds"',
    description: 'Credentials file of NATS (JWT and seed), readable by its owner only.',
  }),
  token: secret({ key: 'programs.nats_token', group: NATS, description: 'Token for NATS.' }),
  user: setting(type.string({ placeholder: 'USER' }), {
    key: 'programs.nats_user',
    group: NATS,
    example: '"agent"',
    description: 'User for NATS.',
  }),
  password: secret({ key: 'programs.nats_password', group: NATS, description: 'Password of that user.' }),
  caFile: setting(type.path(), {
    key: 'programs.nats_ca_file',
    group: NATS,
    example: '"/etc/longline/nats-ca.pem"',
    description: 'PEM file of the CAs that NATS is trusted by; without it those of the system.',
  }),
  certificateFile: setting(type.path(), {
    key: 'programs.nats_cert_file',
    group: NATS,
    example: '"/etc/longline/nats.crt"',
    description: 'PEM file of a client certificate for NATS.',
  }),
  keyFile: setting(type.path(), {
    key: 'programs.nats_key_file',
    group: NATS,
    example: '"/etc/longline/nats.key"',
    description: 'PEM file of its private key, readable by its owner only.',
  }),
} as const;

interface Services {
  readonly registry: Resolved<typeof registrySettings>;
  readonly vault: Resolved<typeof vaultSettings>;
  readonly nats: Resolved<typeof natsSettings>;
}

/** Relations between settings of programs that don't hold. */
export function programConflicts(
  { registry, vault, nats }: Services,
  controllerUrl: string | undefined,
): ConfigConflict[] {
  const found: ConfigConflict[] = [];
  const conflict = (wrong: boolean, key: string, description: string) => {
    if (wrong) found.push({ key: `programs.${key}`, description });
  };
  const { url } = registry;
  const named = url !== '' && url !== 'controller';
  conflict(
    url === 'controller' && controllerUrl === undefined,
    'registry_url',
    'is "controller", and there is no controller',
  );
  conflict(
    registry.token !== undefined && url.startsWith('http:') && !isLoopback(url),
    'registry_url',
    `${url} is not encrypted, and would be sent programs.registry_token; use https://`,
  );
  conflict(
    url === 'controller' && registry.dialect !== 'longline',
    'registry_dialect',
    `is ${registry.dialect}; the controller speaks longline`,
  );
  conflict(
    !named && registry.token !== undefined,
    'registry_token',
    'needs a URL in programs.registry_url to be sent to',
  );
  for (const [system, { certificateFile, keyFile }] of [
    ['registry', registry],
    ['nats', nats],
  ] as const) {
    const half = (certificateFile === undefined) !== (keyFile === undefined);
    conflict(half, `${system}_cert_file`, `goes together with programs.${system}_key_file`);
  }
  const { roleId, secretId } = vault;
  conflict(
    vault.url !== undefined && vault.token === undefined && roleId === undefined,
    'vault_url',
    'needs programs.vault_token or programs.vault_role_id to log in with',
  );
  conflict(
    vault.url?.startsWith('http:') === true && !isLoopback(vault.url),
    'vault_url',
    `${vault.url} is not encrypted, and would be sent what logs in to it; use https://`,
  );
  conflict(secretId !== undefined && roleId === undefined, 'vault_secret_id', 'needs programs.vault_role_id');
  conflict(
    roleId !== undefined && vault.token !== undefined,
    'vault_role_id',
    'is given beside programs.vault_token; give one of them',
  );
  conflict(nats.password !== undefined && nats.user === undefined, 'nats_password', 'needs programs.nats_user');
  return found;
}

function isLoopback(url: string): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(url).hostname);
}
