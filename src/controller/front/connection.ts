// What the front remembers of an accepted connection, tied to its socket. HTTP/2 shows handlers a proxy of the socket,
// which passes symbol properties through; that is why this is a property and not a WeakMap.
import type { X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { LonglineError } from '../../core/errors.ts';
import type { FailureLimit } from '../identity/authorization.ts';

/** Facts of one connection to the operators' stack. */
export interface ConnectionFacts {
  /** Why every call over it is refused; undefined if calls are heard. */
  readonly refusal: LonglineError | undefined;
  readonly failureLimit: FailureLimit;
  /**
   * Where only agents are heard, over HTTP/1.1: the one with this verified certificate, or any by its API key. Undefined for a
   * connection of operators.
   */
  readonly agents: X509Certificate | 'by_api_key' | undefined;
}

const key: unique symbol = Symbol('longline connection');

interface MarkedSocket {
  [key]?: ConnectionFacts;
}

/** Ties facts to a socket. */
export function rememberConnection(socket: Duplex, facts: ConnectionFacts): void {
  (socket as MarkedSocket)[key] = facts;
}

/** The facts tied to a socket, or to the one that a proxy stands for. */
export function connectionOf(socket: object): ConnectionFacts | undefined {
  return (socket as MarkedSocket)[key];
}
