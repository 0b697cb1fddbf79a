// Keys that leave a terminal without ending what runs in it. Pure.
import { InvalidArgumentError } from 'commander';

/** Bytes of the keys, in order. Empty for none. */
export type DetachKeys = Uint8Array;

/** What is used unless told otherwise. */
export const DEFAULT_DETACH_KEYS = 'ctrl-p,ctrl-q';

/** "ctrl-p,ctrl-q", "ctrl-],x"; "" or "none" for none. Throws commander's InvalidArgumentError. */
export function detachKeysValue(text: string): DetachKeys {
  if (text === '' || text === 'none') return new Uint8Array();
  return Uint8Array.from(
    text.split(',').map((key) => {
      const [, control] = /^ctrl-([a-z@[\\\]^_])$/i.exec(key) ?? [];
      if (control !== undefined) return control.toUpperCase().charCodeAt(0) & 0x1f;
      if (/^[\x21-\x7e]$/.test(key)) return key.charCodeAt(0);
      throw new InvalidArgumentError('Give keys such as "ctrl-p,ctrl-q" or "ctrl-]", or "none".');
    }),
  );
}

/** Looks for the keys in what is typed. Bytes that may be the beginning of them are held back until it is clear. */
export class DetachScanner {
  readonly #keys: DetachKeys;
  #matched = 0;

  constructor(keys: DetachKeys) {
    this.#keys = keys;
  }

  /** What is to be sent of these bytes; `detached` once the keys were typed. */
  scan(typed: Uint8Array): { readonly send: Uint8Array; readonly detached: boolean } {
    if (this.#keys.length === 0) return { send: typed, detached: false };
    const send: number[] = [];
    for (const byte of typed) {
      if (byte !== this.#keys[this.#matched]) {
        // What was held back was typed after all; this byte may begin anew.
        send.push(...this.#keys.subarray(0, this.#matched));
        this.#matched = 0;
      }
      if (byte === this.#keys[this.#matched]) this.#matched += 1;
      else send.push(byte);
      if (this.#matched === this.#keys.length) return { send: Uint8Array.from(send), detached: true };
    }
    return { send: Uint8Array.from(send), detached: false };
  }
}
