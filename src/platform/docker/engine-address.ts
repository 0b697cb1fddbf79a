// Where a container engine listens, from the forms that DOCKER_HOST takes.
import { LonglineError } from '../../core/errors.ts';

/** Client certificate and trust for an engine behind TLS, PEM. */
export interface EngineTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Where an engine listens. */
export type EngineAddress =
  /** A unix socket on this host. */
  | { readonly kind: 'unix'; readonly socketPath: string }
  /** TCP; without `tls` only on loopback, because whoever reaches an engine's API owns its host. */
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly tls: EngineTls | undefined };

const FORMS = '"unix:///run/docker.sock" or "tcp://127.0.0.1:2375"';

/** Parses "unix:///path" and "tcp://host:port". Throws `invalid` for other forms, and for plain TCP beyond loopback. */
export function parseEngineAddress(text: string, tls?: EngineTls): EngineAddress {
  if (text.startsWith('unix://')) {
    const socketPath = text.slice('unix://'.length);
    if (!socketPath.startsWith('/')) throw badAddress(text, `the socket path must be absolute, as in ${FORMS}`);
    return { kind: 'unix', socketPath };
  }
  const url = URL.parse(text);
  if (url?.protocol !== 'tcp:' || url.hostname === '') throw badAddress(text, `must look like ${FORMS}`);
  if (url.username !== '' || (url.pathname !== '' && url.pathname !== '/') || url.search !== '') {
    throw badAddress(text, `must have only a host and a port, as in ${FORMS}`);
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (tls === undefined && !isLoopback(host)) {
    throw badAddress(text, 'an engine beyond this host must be reached with TLS; give CA, certificate and key');
  }
  const port = url.port === '' ? (tls === undefined ? 2375 : 2376) : Number(url.port);
  return { kind: 'tcp', host, port, tls };
}

/** The address as text, for messages. */
export function describeAddress(address: EngineAddress): string {
  if (address.kind === 'unix') return `unix://${address.socketPath}`;
  return `tcp://${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function badAddress(text: string, description: string): LonglineError {
  const shown = JSON.stringify(text.slice(0, 200));
  return new LonglineError('invalid', `engine address ${shown}: ${description}`, {
    violations: [{ field: 'engine.host', description: `${shown}: ${description}` }],
  });
}
