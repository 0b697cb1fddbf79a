// Who uses a session and how much: visits, their bytes, and the resources that tell whether it is idle.
import { ratesBetween } from './figures.ts';
import { type IdlePolicy, isBusy } from './idle.ts';
import type { ResourceReading } from './ports.ts';

const WINDOW_MS = 60_000;
const MAX_READINGS = 64;

/** Counters of one session; kept while the process runs. */
export class Traffic {
  #readings: ResourceReading[] = [];
  open = 0;
  inBytes = 0;
  outBytes = 0;

  /** The latest reading and what was used since the one before. */
  latest(): { readonly reading: ResourceReading; readonly cpuCores: number } | undefined {
    const reading = this.#readings.at(-1);
    if (reading === undefined) return undefined;
    return { reading, cpuCores: ratesBetween(this.#readings.at(-2), reading)?.cpuCores ?? 0 };
  }

  /** Takes a reading; true if it shows that the session is at work. */
  measured(reading: ResourceReading, policy: IdlePolicy | null): boolean {
    if (reading.cpuNanos < (this.#readings.at(-1)?.cpuNanos ?? 0)) this.#readings = [];
    this.#readings.push(reading);
    // The newest that is a minute old or more begins the window.
    while (this.#readings.length > 2 && reading.atMs - this.#readings[1]!.atMs >= WINDOW_MS) this.#readings.shift();
    if (this.#readings.length > MAX_READINGS) this.#readings.splice(1, 1);
    const first = this.#readings[0]!;
    const rates = ratesBetween(first, reading);
    if (policy === null || rates === undefined) return false;
    const seconds = Math.min(60, (reading.atMs - first.atMs) / 1000);
    // Bytes within the minute count as they are: a short window is not stretched to a minute.
    return isBusy({ ...rates, networkBytesPerMinute: (rates.networkBytesPerMinute / 60) * seconds }, policy);
  }

  /** A new run begins: its counters begin at nothing. */
  forgetReading(): void {
    this.#readings = [];
  }
}
