// What a replica is called while it leads: by which the others know who does, and whether that one is on their host and wants the same
// places for its HTTP API.
import { createHash, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { PlaceName } from '../http/kept-place.ts';
import type { HttpConfig } from '../http-settings.ts';

/** "host-1/4711/0192…/3f2a9c-": host, process, one of its own, and what stands for the places of its HTTP API. */
export function replicaName({ address, port, socket }: Omit<HttpConfig, 'token'>): string {
  const places = [port === 0 ? undefined : `${address} ${port}`, socket].map(mark).join('-');
  return `${hostname()}/${process.pid}/${randomUUID()}/${places}`;
}

/** Places that another replica of this host wants too. */
export function sharedPlaces(own: string, other: string): ReadonlySet<PlaceName> {
  const [ours, theirs] = [own, other].map((name) => name.split('/'));
  if (own === other || ours![0] !== theirs![0]) return new Set();
  const [ourPlaces, theirPlaces] = [ours, theirs].map((parts) => parts![3]?.split('-') ?? []);
  const shared = (['http.port', 'http.socket'] as const).filter((_, at) => {
    const place = ourPlaces![at];
    return place !== undefined && place !== '' && place === theirPlaces![at];
  });
  return new Set(shared);
}

function mark(place: string | undefined): string {
  return place === undefined ? '' : createHash('sha256').update(place).digest('hex').slice(0, 6);
}
