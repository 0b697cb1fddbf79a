// What a command has of the outside: output with backpressure, input, environment, colour, JSON mode, exit code.
// Commands get a CliIo as argument and touch neither `process` nor `console`, so that tests can run them in-process.
// Convention: each file in commands/ exports `registerXCommands(program: Command, io: CliIo): void`, which adds its
// commands to `program`; an action throws LonglineErrors (main.ts prints them and sets the exit code) and sets
// `io.exitCode` only for an outcome that is no error. `io.json` is known once an action runs, not before.
import type { Readable } from 'node:stream';
import { type LonglineError, toLonglineError } from '../core/errors.ts';
import { EXIT, exitCodeOf } from './exit-code.ts';
import { OutputWriter, type TerminalStream } from './output-writer.ts';
import { renderTable, type TableColumn } from './table.ts';

export { EXIT, exitCodeOf } from './exit-code.ts';
export type { TableColumn } from './table.ts';

/** Colours that output may carry; meaning only, never decoration. */
export type Color = 'red' | 'green' | 'yellow' | 'blue' | 'gray' | 'bold';

const SGR: Readonly<Record<Color, readonly [number, number]>> = {
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
  gray: [90, 39],
  bold: [1, 22],
};

/** What a CliIo is made from; the real ones in main.ts, memory in tests. */
export interface IoStreams {
  readonly stdin: Readable & { readonly isTTY?: boolean; setRawMode?(raw: boolean): unknown };
  readonly stdout: TerminalStream;
  readonly stderr: TerminalStream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The outside of one run of the command line. */
export class CliIo {
  readonly stdout: OutputWriter;
  readonly stderr: OutputWriter;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Exit code of the process; commands may set it, errors thrown by them win. */
  exitCode: number = EXIT.ok;
  /** True if standard output must carry nothing but JSON. */
  json = false;
  readonly #streams: IoStreams;
  #colorAllowed: boolean;

  constructor(streams: IoStreams) {
    this.#streams = streams;
    this.stdout = new OutputWriter(streams.stdout);
    this.stderr = new OutputWriter(streams.stderr);
    this.env = streams.env;
    // https://no-color.org: any value but the empty one switches colour off.
    this.#colorAllowed = (streams.env['NO_COLOR'] ?? '') === '' && streams.env['TERM'] !== 'dumb';
  }

  /** Standard input; opened when it is first asked for. */
  get stdin(): IoStreams['stdin'] {
    return this.#streams.stdin;
  }

  /** Takes the global flags over; called by main.ts before the action of a command. */
  configure(options: { readonly json: boolean; readonly color: boolean }): void {
    this.json = options.json;
    if (!options.color) this.#colorAllowed = false;
  }

  /** Colours text for the given stream; returns it unchanged when that isn't a terminal or colour is off. */
  paint(color: Color, text: string, on: OutputWriter = this.stdout): string {
    if (!this.#colorAllowed || !on.isTty) return text;
    const [start, end] = SGR[color];
    return `\u001b[${start}m${text}\u001b[${end}m`;
  }

  /** One line for people on standard error: progress, notices. Never part of the machine output. */
  async note(text: string): Promise<void> {
    await this.stderr.line(text);
  }

  /** The single result of a command: one JSON object on one line in JSON mode, else `human()` and a line end. */
  async result(value: Readonly<Record<string, unknown>>, human: () => string): Promise<void> {
    await this.stdout.line(this.json ? toJson(value) : human());
  }

  /** The result of a list command: one JSON array in JSON mode, else a table or the note `empty` on standard error. */
  async list<T>(items: readonly T[], columns: readonly TableColumn<T>[], empty: string): Promise<void> {
    if (this.json) return await this.stdout.line(toJson(items));
    if (items.length === 0) return await this.note(empty);
    const width = this.stdout.isTty ? this.stdout.columns : undefined;
    await this.stdout.write(renderTable(items, columns, { width, heading: (text) => this.paint('bold', text) }));
  }

  /** Tells of an error on standard error, as text or {"error":…}, and sets the exit code. */
  async fail(thrown: unknown): Promise<void> {
    const error = toLonglineError(thrown);
    this.exitCode = exitCodeOf(error.reason);
    await this.stderr.line(this.json ? toJson({ error: errorView(error) }) : this.#errorText(error));
  }

  #errorText(error: LonglineError): string {
    const label = this.paint('red', 'error:', this.stderr);
    const lines = [`${label} ${error.violations.length > 1 ? 'several values are wrong' : error.message}`];
    if (error.violations.length > 1) {
      for (const violation of error.violations) lines.push(`  ${violation.field}: ${violation.description}`);
    }
    if (error.rule !== undefined) lines.push(`  decided by: ${error.rule}`);
    if (error.reason === 'internal' && error.cause instanceof Error) lines.push(`  ${error.cause.stack}`);
    return lines.join('\n');
  }
}

/** JSON on one line; bigints as numbers where they fit exactly, else as strings; bytes as base64. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => {
    if (typeof item === 'bigint') {
      return item <= BigInt(Number.MAX_SAFE_INTEGER) && item >= BigInt(Number.MIN_SAFE_INTEGER)
        ? Number(item)
        : item.toString();
    }
    return item instanceof Uint8Array ? Buffer.from(item).toString('base64') : item;
  });
}

/** An error as machine output. */
export function errorView(error: LonglineError): Record<string, unknown> {
  return {
    reason: error.reason,
    message: error.message,
    retryable: error.retryable,
    violations: error.violations,
    ...(error.retryAfterMs === undefined ? {} : { retry_after_seconds: error.retryAfterMs / 1000 }),
    ...(error.rule === undefined ? {} : { rule: error.rule }),
  };
}
