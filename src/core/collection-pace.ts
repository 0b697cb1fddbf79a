// How far the heap may grow between two full collections. V8 counts buffers outside of the heap towards a limit that follows
// from what lives inside it. A process that lives on 25 MB and moves 60 MB of output a second collects all of its heap dozens
// of times a second, to free buffers that a look at the young objects would have freed. So while output flows the limit
// is raised by a fixed number of bytes, whatever the size of the heap; without output V8's own rule holds, and memory stays
// as small as it was.
import { getHeapStatistics, setFlagsFromString } from 'node:v8';

/** What may be allocated between two full collections while output flows. */
const HEADROOM_BYTES = 96 * 1024 * 1024;
/** Output in one period from which on it counts as flowing. */
const FLOWING_BYTES = 2 * 1024 * 1024;
const PERIOD_MS = 1000;
/** Below this V8's own rule gives as much. */
const LEAST_PERCENT = 30;

let seenBytes = 0;
let period: NodeJS.Timeout | undefined;
let raised = false;

/** Notes output that passes through this process. */
export function noteFlow(bytes: number): void {
  seenBytes += bytes;
  if (!raised && seenBytes >= FLOWING_BYTES) raise();
  period ??= setInterval(look, PERIOD_MS).unref();
}

/** Whether the limit is raised at the moment. */
export function isFlowing(): boolean {
  return raised;
}

function look(): void {
  if (seenBytes < FLOWING_BYTES && raised) {
    raised = false;
    setFlagsFromString('--heap-growing-percent=0');
  }
  if (seenBytes === 0) {
    clearInterval(period);
    period = undefined;
  }
  seenBytes = 0;
}

function raise(): void {
  raised = true;
  const percent = Math.round((100 * HEADROOM_BYTES) / getHeapStatistics().used_heap_size);
  if (percent >= LEAST_PERCENT) setFlagsFromString(`--heap-growing-percent=${percent}`);
}
