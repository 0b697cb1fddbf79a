// Whether we may give a daemon to a user of its own, and later end it. Linux only.
import { readFileSync } from 'node:fs';
import type { DaemonPlan } from './daemon-plan.ts';
import { DAEMON_USER } from './daemon-program.ts';

const CAP_NET_ADMIN = 12;

/** CAP_CHOWN for its socket, CAP_KILL to end it, CAP_SETGID and CAP_SETUID to become it. */
const NEEDED = [0, 5, 6, 7] as const;

/**
 * Who daemons run as. Undefined: as we do, because we lack what it takes to start them as anybody else. Then we are best not
 * root, but a user with CAP_NET_ADMIN alone, which the daemon doesn't get.
 */
export function daemonUser(status = readFileSync('/proc/self/status', 'utf8')): DaemonPlan['user'] {
  return NEEDED.every((capability) => has(capability, status)) ? DAEMON_USER : undefined;
}

/** Why no interface can be made by this process, whatever carries it; undefined if it may. */
export function lacksNetAdmin(status = readFileSync('/proc/self/status', 'utf8')): string | undefined {
  if (has(CAP_NET_ADMIN, status)) return undefined;
  return 'this process lacks CAP_NET_ADMIN; run it as root, with AmbientCapabilities=CAP_NET_ADMIN, or with --cap-add NET_ADMIN';
}

function has(capability: number, status: string): boolean {
  const mask = /^CapEff:\t([0-9a-f]+)$/m.exec(status)?.[1];
  return ((BigInt(`0x${mask ?? '0'}`) >> BigInt(capability)) & 1n) === 1n;
}
