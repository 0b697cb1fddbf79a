// First contact: fetches the certificate chain that a controller presents and takes from it the CA certificate whose
// hash the registration token pins. Nothing is sent to the controller before that succeeded.
import { createHash, X509Certificate } from 'node:crypto';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { LonglineError } from '../../core/errors.ts';

/** PEM of the pinned CA certificate. Throws `identity` if the controller doesn't present it, `unavailable` if it can't be reached. */
export async function fetchPinnedAuthority(url: URL, caSha256: Uint8Array, signal: AbortSignal): Promise<string> {
  const chain = await fetchChain(url, signal);
  const wanted = Buffer.from(caSha256);
  for (const der of chain) {
    if (createHash('sha256').update(der).digest().equals(wanted)) return new X509Certificate(der).toString();
  }
  throw new LonglineError(
    'identity',
    `controller ${url.host} presents no certificate with the hash in the token (${wanted.toString('hex').slice(0, 16)}…); ` +
      'the token is from another controller, or something between here and there answers in its place',
  );
}

async function fetchChain(url: URL, signal: AbortSignal): Promise<Uint8Array[]> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array[]>();
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const socket = connect({
    host,
    port: Number(url.port || 443),
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
    ALPNProtocols: ['h2'],
    // The chain is checked against the pin below, and every later connection against the pinned certificate.
    rejectUnauthorized: false,
    timeout: 10_000,
  });
  const onAbort = () => socket.destroy(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  socket.once('secureConnect', () => resolve(chainOf(socket.getPeerCertificate(true))));
  socket.once('timeout', () => socket.destroy(new Error('no TLS handshake within 10 s')));
  socket.once('error', reject);
  socket.once('close', () => reject(new Error('the connection was closed before TLS was up')));
  try {
    return await promise;
  } catch (error) {
    signal.throwIfAborted();
    throw new LonglineError('unavailable', `can't reach controller ${url.host}: ${(error as Error).message}`, {
      cause: error,
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
    socket.destroy();
  }
}

function chainOf(leaf: DetailedPeerCertificate): Uint8Array[] {
  const chain: Uint8Array[] = [];
  // A self-signed certificate is its own issuer.
  for (let at: DetailedPeerCertificate | undefined = leaf; at?.raw !== undefined && chain.length < 10; ) {
    chain.push(at.raw);
    at = at.issuerCertificate === at ? undefined : at.issuerCertificate;
  }
  return chain;
}
