// Logger on pino: one JSON object a line on standard error. Secrets that reach it by accident are struck out, by the name
// of the field and by the look of the text; callers must not rely on that. It never throws.
import pino, { type DestinationStream, type Logger as PinoLogger } from 'pino';
import { Secret } from '../core/config/secret.ts';
import type { LogFields, Logger } from '../core/logger.ts';
import { isJournal, journalStream } from './journal-stream.ts';
import { currentIds } from './tracing/current-span.ts';

/** Levels, from most to least. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;

/** How much is logged. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What a logger is made from. */
export interface LoggerOptions {
  readonly level: LogLevel;
  /** Program part: "controller", "agent". */
  readonly name: string;
  /** Standard error if undefined. Gets whole lines. */
  readonly destination?: DestinationStream;
  /** JOURNAL_STREAM of the environment: lines for the journal begin with their priority. */
  readonly journal?: string | undefined;
}

const STRUCK = '[redacted]';
/** Of a name in words that are parted by "_". */
const SECRET_NAME =
  /(^|_)(authorization|cookie|password|passwd|passphrase|secret|secret_id|token|api_?key|private_?key|preshared_?key|pem)$/;
const SECRET_TEXT = [
  /\bll[ea]1\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]+)?/g,
  /\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}/gi,
  // Of an URL.
  /(?<=\b[a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/@"'?#]+(?=@)/gi,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g,
];
const MAX_DEPTH = 5;
const MAX_ITEMS = 100;
const MAX_TEXT = 8192;

/** Which lines are written, changeable while loggers are in use. */
export interface LogLevels {
  readonly level: LogLevel;
  /** Levels of parts that have one of their own. */
  readonly parts: ReadonlyMap<string, LogLevel>;
  setLevel(level: LogLevel): void;
  /** Of the lines whose field `part`, or else `capability`, is this; undefined takes the level of all again. */
  setPart(part: string, level: LogLevel | undefined): void;
}

/** A line that is written. */
export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly timeMs: number;
  readonly message: string;
  /** All of them, those of the process too. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Takes lines as they are written, with their secrets struck out. Must neither throw nor wait. */
export type LogSink = (line: LogLine) => void;

/** A logger whose lines, and those of all its children, can be copied. */
export interface CopiedLogger extends Logger {
  /** Gives lines from now on to the sink as well; to none if undefined. */
  copyTo(sink: LogSink | undefined): void;
  /** Writes lines that are not copied: for whoever copies them. */
  readonly uncopied: Logger;
}

/** A logger whose level, and that of all its children, can be changed. */
export interface LeveledLogger extends CopiedLogger, LogLevels {}

/** A logger that writes synchronously, so that the last lines before a crash are there. */
export function createLogger(options: LoggerOptions): LeveledLogger {
  const plain = options.destination ?? pino.destination({ fd: 2, sync: true });
  const destination = isJournal(options.journal) ? journalStream(plain) : plain;
  const base = pino(
    {
      // What is logged is decided here: a child of pino's keeps the level that its parent had when it was made.
      level: 'debug',
      base: { name: options.name, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      // Errors are made fit by `redact`; pino's own serializer would add their causes' text anew.
      serializers: { err: (value: unknown) => value },
      formatters: { level: (label) => ({ level: label }) },
      // The trace and span within which a line is written, where there are any.
      mixin: () => ({ ...currentIds() }),
    },
    destination,
  );
  const levels = new Levels(options.level);
  const copies: Copies = { sink: undefined };
  const copyTo = (sink: LogSink | undefined) => {
    copies.sink = sink;
  };
  const uncopied = adapt(base, { levels, copies: { sink: undefined } }, undefined);
  return Object.assign(levels, adapt(base, { levels, copies }, undefined), { copyTo, uncopied });
}

/** Where lines are copied to, for a logger and its children. */
interface Copies {
  sink: LogSink | undefined;
}

/** What decides of lines, for a logger and its children. */
interface LineRules {
  readonly levels: Levels;
  readonly copies: Copies;
}

class Levels implements LogLevels {
  readonly parts = new Map<string, LogLevel>();
  level: LogLevel;

  constructor(level: LogLevel) {
    this.level = level;
  }

  setLevel(level: LogLevel): void {
    this.level = level;
  }

  setPart(part: string, level: LogLevel | undefined): void {
    if (level === undefined) this.parts.delete(part);
    else this.parts.set(part, level);
  }

  /** True if a line of this part is written. */
  takes(level: LogLevel, part: string | undefined): boolean {
    const least = (part === undefined ? undefined : this.parts.get(part)) ?? this.level;
    return LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(least);
  }
}

function adapt(target: PinoLogger, rules: LineRules, part: string | undefined): Logger {
  const { copies, levels } = rules;
  const write = (level: LogLine['level']) => (message: string, fields?: LogFields) => {
    if (!levels.takes(level, part)) return;
    const clean = fields === undefined ? {} : (redact(fields) as object);
    const text = redactText(message);
    target[level](clean, text);
    copies.sink?.({ level, timeMs: Date.now(), message: text, fields: { ...target.bindings(), ...clean } });
  };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: (fields) => adapt(target.child(redact(fields) as object), rules, partOf(fields) ?? part),
  };
}

/** The part that lines with these fields belong to. */
function partOf({ part, capability }: LogFields): string | undefined {
  const name = part ?? capability;
  return typeof name === 'string' ? name : undefined;
}

/** A copy fit for a log: secrets struck out, errors and bytes made readable, depth and length bounded. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= MAX_DEPTH) return '[deeper]';
  if (value instanceof Error) return redactError(value, depth);
  if (value instanceof Secret) return STRUCK;
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.slice(0, MAX_ITEMS).map((item) => redact(item, depth + 1));
  const copy: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value).slice(0, MAX_ITEMS)) {
    copy[name] = isSecretName(name) && item !== undefined ? STRUCK : redact(item, depth + 1);
  }
  return copy;
}

function isSecretName(name: string): boolean {
  const words = name.replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2').replaceAll(/[-. ]/g, '_');
  return SECRET_NAME.test(words.toLowerCase());
}

function redactError(error: Error, depth: number): Record<string, unknown> {
  const { name, message, stack, cause } = error;
  const reason = 'reason' in error ? { reason: redact(error.reason, depth + 1) } : {};
  const because = cause === undefined ? {} : { cause: redact(cause, depth + 1) };
  return { type: name, message: redactText(message), ...reason, stack: redactText(stack ?? ''), ...because };
}

/** As `redact`, for text alone. */
export function redactText(text: string): string {
  let clean = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  for (const pattern of SECRET_TEXT) clean = clean.replace(pattern, STRUCK);
  return clean;
}
