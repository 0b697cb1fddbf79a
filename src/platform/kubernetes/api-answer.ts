// An answer of the API server, whole: an object, or a Status that says why there is none.
import type { IncomingHttpHeaders } from 'node:http';
import { LonglineError, type Reason } from '../../core/errors.ts';

/** A JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Longest wait that a server may ask for. */
const MAX_RETRY_AFTER_MS = 10_000;

/** One answer. */
export class ApiAnswer {
  readonly status: number;
  readonly #where: string;
  readonly #headers: IncomingHttpHeaders;
  readonly #body: JsonObject | undefined;

  constructor(where: string, status: number, headers: IncomingHttpHeaders, text: string) {
    this.#where = where;
    this.status = status;
    this.#headers = headers;
    this.#body = parse(text);
  }

  /** The object that was asked for. */
  object(): JsonObject {
    if (this.#body === undefined) throw this.nonsense('it is no JSON object');
    return this.#body;
  }

  /** Why there is none, in one word ("NotFound"), as the API server says it; undefined if something else answers. */
  get reason(): string | undefined {
    if (this.#body?.['kind'] !== 'Status') return undefined;
    const { reason } = this.#body;
    return typeof reason === 'string' ? reason : '';
  }

  /** What kind of object a Status is about ("leases"); empty if it doesn't say. */
  get about(): string {
    const details = this.reason === undefined ? undefined : this.#body?.['details'];
    const kind = isObject(details) ? details['kind'] : undefined;
    return typeof kind === 'string' ? kind : '';
  }

  /** How long to leave the server alone. */
  get retryAfterMs(): number | undefined {
    const text = this.#headers['retry-after'] ?? '';
    return /^\d{1,6}$/.test(text) ? Math.min(Number(text) * 1000, MAX_RETRY_AFTER_MS) : undefined;
  }

  /** An error with what the server says itself. */
  refused(reason: Reason, why: string): LonglineError {
    const said = this.reason === undefined ? undefined : this.#body?.['message'];
    const quoted = typeof said === 'string' && said !== '' ? `: ${JSON.stringify(said.slice(0, 300))}` : '';
    const text = `the Kubernetes API server at ${this.#where} answered ${this.status}: ${why}${quoted}`;
    return new LonglineError(reason, text, this.retryAfterMs === undefined ? {} : { retryAfterMs: this.retryAfterMs });
  }

  /** An error for an answer that no API server gives. */
  nonsense(why: string): LonglineError {
    const { location } = this.#headers;
    const to = location === undefined ? '' : `, and redirects to ${location.split('?')[0]!.slice(0, 200)}`;
    const text = `what answers at ${this.#where} is no Kubernetes API server: it says ${this.status}${to}; ${why}`;
    return new LonglineError('unavailable', text);
  }
}

/** True for a JSON object, and not for an array or null. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parse(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
