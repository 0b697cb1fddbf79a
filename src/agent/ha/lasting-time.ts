// Time that neither stands still while the host sleeps, as Node's own does on Linux, nor jumps with the wall clock: the
// system's uptime, with Node's clock between its ticks of 10 ms.
import { uptime } from 'node:os';

/** Milliseconds since it was made; never goes back. A process that was stopped, or a host that slept, finds all of it passed. */
export function lastingTime(sinceBootS: () => number = uptime, running: () => number = () => performance.now()) {
  const [bootMs, runningMs] = [sinceBootS() * 1000, running()];
  let latest = 0;
  return (): number => {
    latest = Math.max(latest, sinceBootS() * 1000 - bootMs, running() - runningMs);
    return latest;
  };
}
