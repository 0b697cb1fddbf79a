// Several replicas of one agent, of which one leads. Off by default; without it nothing here is read.
import { type ConfigConflict, type Resolved, secret, setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';

const HA = 'High availability';
const SECOND = 1000;
const MINUTE = 60 * SECOND;

const NAME = { pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/, allowed: '1 to 253 of A-Z a-z 0-9 . _ -' };
const LEASE = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** Where Kubernetes puts what a pod needs to ask its API server. */
const POD = '/var/run/secrets/kubernetes.io/serviceaccount';

const SENTINEL = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}$/;
const SERVICE = {
  pattern: /^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$/,
  allowed: '1 to 63 of A-Z a-z 0-9 _ -, beginning and ending with a letter or digit',
};

/** Settings of leader election. */
export const haSettings = {
  enabled: setting(type.bool(), {
    key: 'ha.enabled',
    flag: '--enable-ha',
    group: HA,
    envAliases: ['ENABLE_HA'],
    default: false,
    description: 'Run as one of several replicas with the same agent id, of which one leads and the others stand by.',
  }),
  backend: setting(type.oneOf(['file', 'redis', 'swarm', 'kubernetes']), {
    key: 'ha.backend',
    flag: '--leader-election-backend',
    group: HA,
    envAliases: ['LEADER_ELECTION_BACKEND'],
    default: 'file',
    description: 'What the replicas elect by: a locked file (one host), Redis, labels of a Swarm service, or a Lease.',
  }),
  ttlMs: setting(type.duration({ min: SECOND, max: 10 * MINUTE }), {
    key: 'ha.lease_ttl',
    group: HA,
    default: 10 * SECOND,
    description:
      'How long a leader that is not heard of counts as one. A locked file is free as soon as its process ends.',
  }),
  renewMs: setting(type.duration({ min: 100, max: 5 * MINUTE }), {
    key: 'ha.renew_interval',
    group: HA,
    default: 3 * SECOND,
    description: 'How often a leader is heard of; at most a third of ha.lease_ttl.',
  }),
  lockFile: setting(type.path(), {
    key: 'ha.lock_file',
    flag: '--lock-file-path',
    group: HA,
    envAliases: ['LOCK_FILE_PATH'],
    example: '"/run/longline/host-1.lock"',
    defaultText: '/run/longline/AGENT_ID.lock',
    description: 'File that replicas of one host lock; on a local file system, and for this agent alone.',
  }),
  redisUrl: secret({
    key: 'ha.redis_url',
    flag: '--redis-url',
    group: HA,
    envAliases: ['REDIS_URL'],
    pattern: /^rediss?:\/\/[^\s/]+(\/[0-9]{1,5})?$/,
    allowed: 'redis://HOST:PORT/NUMBER, or rediss:// for TLS',
    description: 'Redis to elect by; may name user and password.',
  }),
  redisUsername: setting(type.string(), {
    key: 'ha.redis_username',
    group: HA,
    example: '"longline"',
    description: 'User in Redis, if the URL names none.',
  }),
  redisPassword: secret({
    key: 'ha.redis_password',
    group: HA,
    description: 'Password in Redis, if the URL names none.',
  }),
  redisCaFile: setting(type.path(), {
    key: 'ha.redis_ca_file',
    group: HA,
    example: '"/etc/ssl/certs/redis-ca.pem"',
    description: 'PEM file of the CAs to trust for rediss://; without it those of the system.',
  }),
  redisSentinels: setting(
    type.list(type.string({ pattern: SENTINEL, allowed: 'HOST:PORT', placeholder: 'HOST:PORT' })),
    {
      key: 'ha.redis_sentinels',
      group: HA,
      default: [],
      example: '["sentinel-1:26379", "sentinel-2:26379", "sentinel-3:26379"]',
      description: 'Sentinels that know the primary; then host and port of ha.redis_url do not count.',
    },
  ),
  redisMasterName: setting(type.string({ ...NAME, placeholder: 'NAME' }), {
    key: 'ha.redis_master_name',
    group: HA,
    example: '"mymaster"',
    description: 'What the Sentinels call the primary.',
  }),
  swarmService: setting(type.string({ ...SERVICE, placeholder: 'SERVICE' }), {
    key: 'ha.swarm_service',
    group: HA,
    defaultText: 'longline-leader-AGENT_ID',
    example: '"longline-leader-host-1"',
    description:
      'Swarm service whose labels say who leads, made for that alone. ha.backend = swarm needs a manager as docker_host.',
  }),
  kubernetes: {
    host: setting(
      type.string({ pattern: /^[A-Za-z0-9.:_-]{1,253}$/, allowed: 'a name or an address', placeholder: 'HOST' }),
      {
        key: 'ha.kubernetes_host',
        group: HA,
        envAliases: ['KUBERNETES_SERVICE_HOST'],
        example: '"10.96.0.1"',
        description: 'API server that has the Lease. A pod is told by Kubernetes.',
      },
    ),
    port: setting(type.int({ min: 1, max: 65_535 }), {
      key: 'ha.kubernetes_port',
      group: HA,
      envAliases: ['KUBERNETES_SERVICE_PORT'],
      default: 443,
      description: 'Its port.',
    }),
    tokenFile: setting(type.path(), {
      key: 'ha.kubernetes_token_file',
      group: HA,
      default: `${POD}/token`,
      description: 'File with the token of a service account; read anew for each request.',
    }),
    caFile: setting(type.path(), {
      key: 'ha.kubernetes_ca_file',
      group: HA,
      default: `${POD}/ca.crt`,
      description: 'PEM file of the CAs to trust for the API server; read anew for each request.',
    }),
    namespace: setting(type.string({ pattern: NAMESPACE, allowed: '1 to 63 of a-z 0-9 -', placeholder: 'NAMESPACE' }), {
      key: 'ha.kubernetes_namespace',
      group: HA,
      defaultText: "that of the pod's service account",
      example: '"longline"',
      description: 'Namespace of the Lease.',
    }),
    lease: setting(type.string({ pattern: LEASE, allowed: '1 to 253 of a-z 0-9 - .', placeholder: 'LEASE' }), {
      key: 'ha.kubernetes_lease',
      group: HA,
      defaultText: 'longline-AGENT_ID',
      example: '"longline-agent"',
      description: 'Name of the Lease (coordination.k8s.io/v1).',
    }),
  },
} as const;

/** Leader election's settings, resolved. */
export type HaConfig = Resolved<typeof haSettings>;

/** Name of the Lease of an agent, if its id makes one. */
export function leaseName({ lease }: HaConfig['kubernetes'], agentId: string): string | undefined {
  const name = lease ?? `longline-${agentId}`;
  return LEASE.test(name) ? name : undefined;
}

/** The file that says in which namespace a pod is. */
export const POD_NAMESPACE_FILE = `${POD}/namespace`;

/** Relations that don't hold. */
export function haConflicts(ha: HaConfig, agentId: string): ConfigConflict[] {
  if (!ha.enabled) return [];
  const found: ConfigConflict[] = [];
  if (ha.renewMs * 3 > ha.ttlMs) {
    const description = `${ha.renewMs} ms is more than a third of ha.lease_ttl, which is ${ha.ttlMs} ms`;
    found.push({ key: 'ha.renew_interval', description });
  }
  if (ha.backend === 'redis' && ha.redisUrl === undefined) {
    found.push({ key: 'ha.redis_url', description: 'is missing; ha.backend = redis needs redis://HOST:PORT' });
  }
  if (ha.backend === 'redis' && ha.redisUrl !== undefined && !isReadable(ha.redisUrl.reveal())) {
    const description =
      'is no URL: its port must be 1 to 65535, and what is special in user and password percent-encoded ("#" as %23, "%" as %25)';
    found.push({ key: 'ha.redis_url', description });
  }
  const nowhere = ha.redisSentinels.find((sentinel) => !isReadable(`redis://${sentinel}`));
  if (nowhere !== undefined) {
    const description = `${JSON.stringify(nowhere)} is no HOST:PORT; a port is 1 to 65535, and an IPv6 address stands in brackets`;
    found.push({ key: 'ha.redis_sentinels', description });
  }
  if (ha.redisSentinels.length > 0 && ha.redisMasterName === undefined) {
    const description = 'is missing; ha.redis_sentinels need the name that they know the primary by';
    found.push({ key: 'ha.redis_master_name', description });
  }
  if (ha.redisSentinels.length === 0 && ha.redisMasterName !== undefined) {
    const description = `names ${ha.redisMasterName}, but ha.redis_sentinels name nobody who knows it`;
    found.push({ key: 'ha.redis_master_name', description });
  }
  if (ha.backend === 'kubernetes') found.push(...kubernetesConflicts(ha, agentId));
  return found;
}

/** Whether a URL, and user and password in it, can be read. Errors of a parser would show all of it. */
function isReadable(text: string): boolean {
  try {
    const { username, password, port, search, hash } = new URL(text);
    decodeURIComponent(username);
    decodeURIComponent(password);
    return port !== '0' && search === '' && hash === '';
  } catch {
    return false;
  }
}

function kubernetesConflicts({ kubernetes }: HaConfig, agentId: string): ConfigConflict[] {
  const found: ConfigConflict[] = [];
  if (kubernetes.host === undefined) {
    const description = 'is missing; outside of a pod, ha.backend = kubernetes needs the name of an API server';
    found.push({ key: 'ha.kubernetes_host', description });
  }
  if (leaseName(kubernetes, agentId) === undefined) {
    const description = `is missing; longline-${agentId} is no name for a Lease, which has a-z 0-9 - . only`;
    found.push({ key: 'ha.kubernetes_lease', description });
  }
  return found;
}
