// Whom a host asks for names while a network is up, as it is written in a spec. Pure.

/** How name servers are made known: `auto` takes what the host has. */
export const DNS_BACKENDS = ['auto', 'resolved', 'resolvconf', 'file', 'dnsmasq'] as const;
export type DnsBackend = (typeof DNS_BACKENDS)[number];

/** What a domain looks like, for messages. */
export const domainForm =
  'a domain such as "corp.example", with "~" in front if it is only to be asked for there and not searched, or "~." for all names';

/** A domain in lower case, without a dot at its end; undefined if it isn't one. */
export function parseDomain(text: string): string | undefined {
  if (text === '~.') return text;
  const match = /^(~?)([A-Za-z0-9._-]{1,253}?)\.?$/.exec(text);
  if (match === null) return undefined;
  const right = match[2]!.split('.').every((label) => /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label));
  return right ? `${match[1]}${match[2]!.toLowerCase()}` : undefined;
}

/** A backend by its name; undefined if there is none of that name. */
export function parseDnsBackend(text: string): DnsBackend | undefined {
  return DNS_BACKENDS.find((backend) => backend === text);
}
