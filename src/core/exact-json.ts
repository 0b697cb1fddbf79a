// JSON that keeps whole numbers of any size: a bigint is an object with the one field "bigint". For records of our own.

/** A value as text; what JSON leaves out (undefined, functions) is left out. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? { bigint: String(one) } : one));
}

/** The value of such a text. Throws SyntaxError for what is none. */
export function fromJson(text: string): unknown {
  return JSON.parse(text, (_key, one: unknown) => (isBigint(one) ? BigInt(one.bigint) : one));
}

function isBigint(value: unknown): value is { readonly bigint: string } {
  if (typeof value !== 'object' || value === null || Object.keys(value).length !== 1) return false;
  return 'bigint' in value && typeof value.bigint === 'string' && /^-?\d+$/.test(value.bigint);
}
