// Where a peer is reached: a host name or address, and a port. Pure; names are resolved elsewhere.
import { parseAddress } from './prefix.ts';

/** What an endpoint looks like, for messages. */
export const endpointForm =
  'a host and port such as "203.0.113.10:51820", "[2001:db8::1]:51820" or "hub.example.org:51820"';

/** An endpoint in canonical form; undefined if it isn't one. */
export function parseEndpoint(text: string): string | undefined {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9._-]{1,253})):([1-9]\d{0,4})$/.exec(text);
  if (match === null || Number(match[3]) > 65_535) return undefined;
  if (match[1] !== undefined) {
    const address = parseAddress(match[1]);
    return address === undefined ? undefined : `[${address}]:${match[3]}`;
  }
  const host = match[2]!;
  if (/^[\d.]+$/.test(host)) return parseAddress(host) === undefined ? undefined : text;
  const labels = host.replace(/\.$/, '').split('.');
  if (!labels.every((label) => /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label))) return undefined;
  return `${host.toLowerCase()}:${match[3]}`;
}

/** True for an endpoint that needs no resolving. */
export function isResolved(endpoint: string): boolean {
  return parseAddress(endpoint.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')) !== undefined;
}
