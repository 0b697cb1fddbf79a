// Cuts a stream of bytes into JSON objects, one a line or over several lines. Finds where each ends without understanding it.

const LINE_END = 10;
const [BACKSLASH, QUOTE, OPEN, CLOSE] = [...'\\"{}'].map((character) => character.charCodeAt(0));

/** Whole objects of one stream. */
export class JsonSplitter {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;

  /** @param maxBytes longest object. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** True between two objects. */
  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  /** The objects that end in this piece. Throws RangeError for what is no object, or too long; then no more is to be given. */
  *take(piece: Buffer): Generator<string> {
    let start = 0;
    for (let at = 0; at < piece.length; at++) {
      const byte = piece[at]!;
      if (this.#depth === 0 && byte !== OPEN) {
        if (!isBlank(byte)) throw new RangeError('a message must be an object such as {"action":"status"}');
        start = at + 1;
        continue;
      }
      if (this.#inString && byte === LINE_END) throw new RangeError('not JSON: a string has no end on its line');
      this.#step(byte);
      if (this.#depth > 0) continue;
      this.#keep(piece.subarray(start, at + 1));
      start = at + 1;
      const whole = Buffer.concat(this.#chunks).toString();
      this.#chunks = [];
      this.#bytes = 0;
      yield whole;
    }
    if (start < piece.length) this.#keep(piece.subarray(start));
  }

  #step(byte: number): void {
    if (this.#escaped) this.#escaped = false;
    else if (this.#inString && byte === BACKSLASH) this.#escaped = true;
    else if (byte === QUOTE) this.#inString = !this.#inString;
    else if (!this.#inString && byte === OPEN) this.#depth += 1;
    else if (!this.#inString && byte === CLOSE) this.#depth -= 1;
  }

  #keep(piece: Buffer): void {
    this.#bytes += piece.length;
    if (this.#bytes > this.#maxBytes) throw new RangeError(`a message has at most ${this.#maxBytes} bytes`);
    this.#chunks.push(piece);
  }
}

function isBlank(byte: number): boolean {
  return byte === 32 || byte === 10 || byte === 13 || byte === 9;
}
