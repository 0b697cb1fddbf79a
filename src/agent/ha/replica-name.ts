// What a replica is called while it leads: by which the others know who does, and whether that one is on their host and wants the same
// places for its HTTP API.
import { createHash, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { HttpConfig } from '../http-settings.ts';

/** "host-1/4711/0192…/3f2a9c01": host, process, one of its own, and what stands for its HTTP places. */
export function replicaName({ address, port, socket }: Omit<HttpConfig, 'token'>): string {
  const places = createHash('sha256')
    .update(JSON.stringify([address, port, socket]))
    .digest('hex')
    .slice(0, 8);
  return `${hostname()}/${process.pid}/${randomUUID()}/${places}`;
}

/** True if another replica of this host has the same places. */
export function sharesPlaces(own: string, other: string): boolean {
  if (own === other) return false;
  const [host, , , places] = own.split('/');
  const [otherHost, , , otherPlaces] = other.split('/');
  return host === otherHost && places === otherPlaces && places !== undefined;
}
