// The table at the end of the demo: each step with what was expected, what came, and how long it took. A step that broke is
// a row like any other, so that one failure doesn't hide the rest.
import { formatDuration } from '../../src/core/clock.ts';
import type { Screen } from './screen.ts';

/** One row. */
export interface Row {
  readonly step: string;
  readonly expected: string;
  readonly got: string;
  readonly durationMs: number;
  readonly ok: boolean;
}

/** Collects rows. */
export class Report {
  readonly rows: Row[] = [];
  readonly #screen: Screen;
  readonly #signal: AbortSignal;

  constructor(screen: Screen, signal: AbortSignal) {
    this.#screen = screen;
    this.#signal = signal;
  }

  /** Does a step. It is as expected if `action` gives exactly `expected`. */
  async step(step: string, expected: string, action: () => Promise<string>): Promise<void> {
    this.#signal.throwIfAborted();
    const startedMs = performance.now();
    let got: string;
    try {
      got = await action();
    } catch (error) {
      if (this.#signal.aborted) throw this.#signal.reason;
      const message = error instanceof Error ? error.message : String(error);
      this.#screen.line(this.#screen.style('red', message.replace(/^/gm, '  ! ')));
      got = message.split('\n')[0]!;
    }
    const ok = got === expected;
    this.rows.push({ step, expected, got, durationMs: performance.now() - startedMs, ok });
    if (!ok) this.#screen.say(this.#screen.style('red', `expected: ${expected}`));
  }

  get ok(): boolean {
    return this.rows.length > 0 && this.rows.every((row) => row.ok);
  }

  /** Prints the table and the verdict. */
  print(): void {
    const clip = (text: string) => (text.length > 46 ? `${text.slice(0, 45)}…` : text);
    const cells = this.rows.map(
      (row) => [row.step, row.expected, clip(row.got), formatDuration(row.durationMs)] as const,
    );
    const head = ['step', 'expected', 'got', 'time'] as const;
    const widths = head.map((title, column) => Math.max(title.length, ...cells.map((row) => row[column]!.length)));
    const format = (row: readonly string[]) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd();
    this.#screen.line(`\n  ${this.#screen.style('bold', `   ${format(head)}`)}`);
    for (const [index, row] of this.rows.entries()) {
      const mark = row.ok ? this.#screen.style('green', '✓') : this.#screen.style('red', '✗');
      this.#screen.line(`  ${mark}  ${format(cells[index]!)}`);
    }
    const wrong = this.rows.filter((row) => !row.ok).length;
    const verdict = this.ok
      ? this.#screen.style(['bold', 'green'], `all ${this.rows.length} steps as expected`)
      : this.#screen.style(['bold', 'red'], `${wrong} of ${this.rows.length} steps not as expected`);
    this.#screen.line(`\n  ${verdict}`);
  }
}
