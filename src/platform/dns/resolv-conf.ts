// What stands in resolv.conf. It knows neither interfaces nor domains: whoever is named there is asked for all names. Pure.
import type { WantedNameServers } from '../../capabilities/network/ports.ts';

/** What glibc reads, and no more. */
const MAX_SERVERS = 3;

/** Name servers, and what is searched, by interface in the order in which they came. */
export type ByInterface = Readonly<Record<string, WantedNameServers>>;

/** Domains that are searched. */
export function searched(domains: readonly string[]): readonly string[] {
  return domains.filter((domain) => !domain.startsWith('~'));
}

/** True if only some names are to be asked for at the servers. */
export function isSplit(domains: readonly string[]): boolean {
  return domains.length > 0 && !domains.includes('~.');
}

/** The text for these interfaces. Options, and what was searched, are taken over from the text before. */
export function resolvConf(wanted: ByInterface, before: string): string {
  const servers = [...new Set(Object.values(wanted).flatMap((one) => one.servers))].slice(0, MAX_SERVERS);
  const own = Object.values(wanted).flatMap(({ domains }) => searched(domains));
  const search = [...new Set([...own, ...words(before, /^(?:search|domain)\s/)])];
  const options = before.split('\n').filter((line) => /^options\s/.test(line));
  return [
    `# Set by Longline while ${Object.keys(wanted).join(', ')} is up; what was here before is then put back.`,
    ...servers.map((server) => `nameserver ${server}`),
    ...(search.length === 0 ? [] : [`search ${search.join(' ')}`]),
    ...options,
    '',
  ].join('\n');
}

/** What of it can't be had in resolv.conf. */
export function resolvConfNotes(wanted: ByInterface): readonly string[] {
  const notes: string[] = [];
  const all = Object.entries(wanted);
  for (const [name, { domains }] of all) {
    if (isSplit(domains))
      notes.push(`resolv.conf knows no domains: the name servers of ${name} are asked for all names`);
  }
  const count = new Set(all.flatMap(([, { servers }]) => servers)).size;
  if (count > MAX_SERVERS)
    notes.push(`resolv.conf holds ${MAX_SERVERS} name servers: of ${count} the last are left out`);
  return notes;
}

/** True if a text asks one of these addresses. */
export function asks(text: string, addresses: readonly string[]): boolean {
  return words(text, /^nameserver\s/).some((word) => addresses.includes(word));
}

function words(text: string, line: RegExp): readonly string[] {
  return text
    .split('\n')
    .filter((one) => line.test(one))
    .flatMap((one) => one.trim().split(/\s+/).slice(1));
}
