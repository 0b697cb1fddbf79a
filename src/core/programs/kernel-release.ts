// Releases of the kernel, such as "6.1.0-13-amd64", and what an artifact needs of them. Pure.

/** Why this kernel is too old for an artifact; undefined if it isn't. One that can't be read is taken for too old. */
export function kernelFault(minimum: string | undefined, release: string): string | undefined {
  if (minimum === undefined) return undefined;
  const [needed, found] = [numbers(minimum), numbers(release)];
  if (found === undefined || needed === undefined) {
    return `the artifact needs a kernel from ${minimum} on, and "${release}" doesn't say which this is`;
  }
  for (const [place, number] of needed.entries()) {
    const difference = found[place]! - number;
    if (difference > 0) return undefined;
    if (difference < 0) return `the artifact needs a kernel from ${minimum} on; this one is ${release}`;
  }
  return undefined;
}

function numbers(release: string): readonly number[] | undefined {
  const match = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(release);
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}
