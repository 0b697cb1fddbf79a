// Where NATS is and who we are there, from a URL. Pure. Errors name hosts only: a URL may hold a password.
import { LonglineError } from '../../core/errors.ts';

/** What a URL says, or several with commas between. */
export interface NatsServers {
  /** "host:port", in the order of the URLs. */
  readonly addresses: readonly string[];
  /** True if a connection without TLS is not to be had. */
  readonly tls: boolean;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly token: string | undefined;
}

const DEFAULT_PORT = '4222';
const MAX_SERVERS = 32;

/** Reads "nats://user:password@host:4222,tls://other". Throws `invalid` with what would be right. */
export function parseServers(text: string): NatsServers {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.length > MAX_SERVERS) throw wrong(`has ${parts.length} servers; at most ${MAX_SERVERS}`);
  const urls = parts.map(parseServer);
  const named = urls.find(({ username }) => username !== '');
  const [name, password] = [named?.username, named?.password].map((part) => decodeURIComponent(part ?? ''));
  return {
    addresses: urls.map(({ hostname, port }) => `${hostname}:${port || DEFAULT_PORT}`),
    tls: urls.some(({ protocol }) => protocol === 'tls:'),
    user: name !== '' && password !== '' ? name : undefined,
    password: password === '' ? undefined : password,
    // As other clients of NATS read it: a name alone is a token.
    token: name !== '' && password === '' ? name : undefined,
  };
}

function parseServer(part: string, index: number): URL {
  const url = URL.canParse(part) ? new URL(part) : undefined;
  if (url === undefined || url.hostname === '') throw wrong(`has no host at place ${index + 1}`);
  if (url.protocol !== 'nats:' && url.protocol !== 'tls:') throw wrong(`has the scheme "${url.protocol.slice(0, -1)}"`);
  if ((url.pathname !== '' && url.pathname !== '/') || url.search !== '' || url.hash !== '') {
    throw wrong(`has more than host and port at place ${index + 1}`);
  }
  return url;
}

function wrong(what: string): LonglineError {
  const right = 'nats://HOST:PORT or tls://HOST:PORT, several with commas between';
  return new LonglineError('invalid', `nats.url: ${what}; it must look like ${right}`);
}
