// One line on a terminal that says what a job is waiting for. Gone before any output is shown; nothing at all if
// standard error is no terminal.
import { type JobExecution, type JobProgress, type JobPulling, JobState } from '#gen/longline/v1/job_pb.js';
import { formatByteSize } from '../../core/byte-size.ts';
import type { CliIo } from '../io.ts';
import { cut, plainText } from '../table.ts';

const BAR_WIDTH = 24;
const ERASE_LINE = '\r\u001b[K';
const SHORTEST_REDRAW_MS = 100;

/** Draws and erases the line. */
export class ProgressLine {
  readonly #io: CliIo;
  readonly #enabled: boolean;
  #shown = '';
  #drawnAtMs = Number.NEGATIVE_INFINITY;

  constructor(io: CliIo) {
    this.#io = io;
    this.#enabled = io.stderr.isTty && !io.json;
  }

  /** Shows a text; drops it if the last was drawn a moment ago and `urgent` is not set. */
  async show(text: string, urgent = false): Promise<void> {
    const nowMs = performance.now();
    if (!this.#enabled || text === this.#shown) return;
    if (!urgent && nowMs - this.#drawnAtMs < SHORTEST_REDRAW_MS) return;
    this.#shown = text;
    this.#drawnAtMs = nowMs;
    const line = cut(plainText(text), this.#io.stderr.columns - 1);
    await this.#io.stderr.write(ERASE_LINE + this.#io.paint('gray', line, this.#io.stderr));
  }

  /** Takes the line away. */
  async clear(): Promise<void> {
    if (this.#shown === '') return;
    this.#shown = '';
    await this.#io.stderr.write(ERASE_LINE);
  }
}

/** What an execution is waiting for, in words; empty once it runs. */
export function waitingText(execution: JobExecution): string {
  const agent = execution.agentId;
  switch (execution.state) {
    case JobState.PENDING:
      return `waiting for ${agent}`;
    case JobState.QUEUED:
    case JobState.PREPARING:
      return `${agent}: ${stepText(execution.progress)}`;
    case JobState.STOPPING:
      return `${agent}: stopping`;
    default:
      return '';
  }
}

function stepText(progress: JobProgress | undefined): string {
  const step = progress?.step;
  if (step?.case === 'queued') return `place ${step.value.position} in the queue`;
  if (step?.case === 'creating') return `making the container from ${step.value.image}`;
  return step?.case === 'pulling' ? pullText(step.value) : 'waiting for a place';
}

/** How far a pull is, with a bar once its size is known. */
export function pullText(pull: Omit<JobPulling, '$typeName'>): string {
  const { image, bytesDone, bytesTotal, layersDone, layersTotal, attempt } = pull;
  const again = attempt > 1 ? `, try ${attempt}` : '';
  if (bytesTotal === 0n) return `fetching ${image}${again}`;
  const share = Math.min(1, Number(bytesDone) / Number(bytesTotal));
  const filled = Math.round(share * BAR_WIDTH);
  const bar = `${'#'.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}`;
  return `fetching ${image} [${bar}] ${Math.round(share * 100)}% of ${roundSize(Number(bytesTotal))}, layer ${layersDone}/${layersTotal}${again}`;
}

function roundSize(bytes: number): string {
  return bytes < 1024 ** 2 ? formatByteSize(bytes) : `${(bytes / 1024 ** 2).toFixed(1)}MiB`;
}
