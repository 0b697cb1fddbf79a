// Where NATS is and who we are there, from URLs. Pure. Errors name hosts only: a URL may hold a password.
import { LonglineError } from '../../core/errors.ts';

/** What URLs say. */
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

/** Reads "nats://user:password@host:4222", "tls://other". Throws `invalid` with what would be right. */
export function parseServers(texts: readonly string[]): NatsServers {
  if (texts.length === 0) throw wrong('is empty');
  if (texts.length > MAX_SERVERS) throw wrong(`has ${texts.length} servers; at most ${MAX_SERVERS}`);
  const urls = texts.map(parseServer);
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
  const right = 'each must look like nats://HOST:PORT or tls://HOST:PORT';
  return new LonglineError('invalid', `programs.nats_url: ${what}; ${right}`);
}
