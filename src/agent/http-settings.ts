// The local HTTP API of the agent. On by default, and on loopback: several agents of one host take the port one after the other.
import type { Resolved } from '../core/config/setting.ts';
import { secret, setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';

const HTTP = 'Local HTTP';

/** Settings of the local HTTP API. */
export const httpSettings = {
  port: setting(type.int({ min: 0, max: 65_535 }), {
    key: 'http.port',
    group: HTTP,
    envAliases: ['AGENT_HTTP_PORT'],
    default: 8080,
    description: 'Port of health, status, version and programs; 0 for none. A taken one is tried again.',
  }),
  address: setting(
    type.string({
      pattern: /^[0-9A-Za-z.:%_-]*$/,
      allowed: 'an address of this host, or empty for all interfaces',
      placeholder: 'ADDRESS',
    }),
    {
      key: 'http.address',
      group: HTTP,
      envAliases: ['AGENT_HTTP_ADDRESS'],
      default: '127.0.0.1',
      description: 'Address that it is served on, without encryption; empty or "::" for all interfaces.',
    },
  ),
  socket: setting(type.path(), {
    key: 'http.socket',
    example: '"/run/longline/http.sock"',
    group: HTTP,
    description:
      'Unix socket that it is served on, beside the port or in its place; whoever may open it reads everything.',
  }),
  token: secret({
    key: 'http.token',
    group: HTTP,
    pattern: /^[\x21-\x7e]{16,512}$/,
    allowed: '16 to 512 visible characters of ASCII',
    description: 'Whoever shows it as a bearer token reads more than health and version from elsewhere than this host.',
  }),
} as const;

/** The local HTTP API's settings, resolved. */
export type HttpConfig = Resolved<typeof httpSettings>;
