// SHA-256 (FIPS 180-4) whose state can be kept on disk, which node:crypto can't. Used only where a log goes on after
// its first segments are gone; everything else hashes natively.

const ROUND_CONSTANTS = new Int32Array(64);
const INITIAL = new Int32Array(8);
{
  // The constants are the fractional bits of the cube and square roots of the first primes.
  const fraction = (root: number) => Math.floor((root - Math.floor(root)) * 2 ** 32);
  let count = 0;
  for (let candidate = 2; count < 64; candidate++) {
    let prime = true;
    for (let divisor = 2; divisor * divisor <= candidate; divisor++) if (candidate % divisor === 0) prime = false;
    if (!prime) continue;
    ROUND_CONSTANTS[count] = fraction(Math.cbrt(candidate));
    if (count < 8) INITIAL[count] = fraction(Math.sqrt(candidate));
    count += 1;
  }
}

const BLOCK_BYTES = 64;

/** A SHA-256 that can stop and go on in another process. */
export class ResumableSha256 {
  readonly #state = Int32Array.from(INITIAL);
  readonly #tail = new Uint8Array(BLOCK_BYTES);
  readonly #schedule = new Int32Array(64);
  #lengthBytes = 0;

  /** Goes on from what `save` gave. */
  static restore(saved: string): ResumableSha256 {
    const bytes = Buffer.from(saved, 'base64');
    const hash = new ResumableSha256();
    hash.#lengthBytes = bytes.readDoubleLE(0);
    for (let index = 0; index < 8; index++) hash.#state[index] = bytes.readInt32LE(8 + index * 4);
    hash.#tail.set(bytes.subarray(40, 40 + BLOCK_BYTES));
    return hash;
  }

  /** The state as text. */
  save(): string {
    const bytes = Buffer.alloc(40 + BLOCK_BYTES);
    bytes.writeDoubleLE(this.#lengthBytes, 0);
    for (let index = 0; index < 8; index++) bytes.writeInt32LE(this.#state[index]!, 8 + index * 4);
    bytes.set(this.#tail, 40);
    return bytes.toString('base64');
  }

  update(data: Uint8Array): this {
    let at = 0;
    const filled = this.#lengthBytes % BLOCK_BYTES;
    this.#lengthBytes += data.length;
    if (filled > 0) {
      at = Math.min(BLOCK_BYTES - filled, data.length);
      this.#tail.set(data.subarray(0, at), filled);
      if (filled + at < BLOCK_BYTES) return this;
      this.#compress(this.#tail, 0);
    }
    for (; at + BLOCK_BYTES <= data.length; at += BLOCK_BYTES) this.#compress(data, at);
    this.#tail.set(data.subarray(at), 0);
    return this;
  }

  /** The digest of everything so far. The hash itself is used up. */
  digest(): Buffer {
    const bits = BigInt(this.#lengthBytes) * 8n;
    const filled = this.#lengthBytes % BLOCK_BYTES;
    const padding = Buffer.alloc((filled < 56 ? 56 : 120) - filled + 8);
    padding[0] = 0x80;
    padding.writeBigUInt64BE(bits, padding.length - 8);
    this.update(padding);
    const digest = Buffer.alloc(32);
    for (let index = 0; index < 8; index++) digest.writeInt32BE(this.#state[index]!, index * 4);
    return digest;
  }

  #compress(data: Uint8Array, start: number): void {
    const w = this.#schedule;
    for (let index = 0; index < 16; index++) {
      const at = start + index * 4;
      w[index] = (data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!;
    }
    for (let index = 16; index < 64; index++) {
      const x = w[index - 15]!;
      const y = w[index - 2]!;
      const s0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
      const s1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
      w[index] = (w[index - 16]! + s0 + w[index - 7]! + s1) | 0;
    }
    const state = this.#state;
    let a = state[0]!;
    let b = state[1]!;
    let c = state[2]!;
    let d = state[3]!;
    let e = state[4]!;
    let f = state[5]!;
    let g = state[6]!;
    let h = state[7]!;
    for (let index = 0; index < 64; index++) {
      const sum1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (h + sum1 + ((e & f) ^ (~e & g)) + ROUND_CONSTANTS[index]! + w[index]!) | 0;
      const sum0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (sum0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    state[0] = state[0]! + a;
    state[1] = state[1]! + b;
    state[2] = state[2]! + c;
    state[3] = state[3]! + d;
    state[4] = state[4]! + e;
    state[5] = state[5]! + f;
    state[6] = state[6]! + g;
    state[7] = state[7]! + h;
  }
}

function rotate(value: number, bits: number): number {
  return (value >>> bits) | (value << (32 - bits));
}
