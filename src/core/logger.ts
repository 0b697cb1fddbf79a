// What a module may log to. src/telemetry makes one on pino; tests hand in one that records.

/** Structured facts of a log line. Never put a secret here: redaction is a net, not a plan. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Levelled, structured logging. Message first, facts second; errors go under the key `err`. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds these facts to every line. */
  child(fields: LogFields): Logger;
}

/** Drops everything. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLogger,
};
