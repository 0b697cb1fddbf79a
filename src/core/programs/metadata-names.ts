// Names in an artifact's metadata, and how a wrong one is told of. Pure.

/** Names of functions and variables of an object. */
export const SYMBOL_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
/** Names of maps; those of the compiler begin with a dot. */
export const MAP_NAME = /^[A-Za-z_.][A-Za-z0-9_.]{0,127}$/;
/** Names of event types, event fields and further counters. */
export const FIELD_NAME = /^[A-Za-z][A-Za-z0-9_]{0,62}$/;
/** The same in words. */
export const FIELD_NAME_FORM = 'a letter, then letters, digits and "_", at most 63 in all';

/** A value for messages. */
export function shownValue(text: string): string {
  return text === '' ? 'missing' : `got ${JSON.stringify(text.slice(0, 100))}`;
}
