// Patterns in which `*` stands for any characters but "/", and `**` for any; the rest is literal. Pure.

/** The pattern as an expression that matches whole texts. */
export function compileGlob(pattern: string): RegExp {
  const source = pattern
    .split(/(\*+)/)
    .map((part) => {
      if (!part.startsWith('*')) return part.replaceAll(/[\\^$.|?+()[\]{}]/g, '\\$&');
      return part.length > 1 ? '.*' : '[^/]*';
    })
    .join('');
  return new RegExp(`^${source}$`, 's');
}

const compiled = new Map<string, RegExp>();

/** Matches a name, such as a key or controller id, against a pattern in which `*` stands for any characters. */
export function nameMatches(pattern: string, name: string): boolean {
  let expression = compiled.get(pattern);
  if (expression === undefined) {
    expression = compileGlob(pattern.replaceAll(/\*+/g, '**'));
    // Patterns come from files that may be reloaded for as long as the agent lives.
    if (compiled.size >= 1000) compiled.clear();
    compiled.set(pattern, expression);
  }
  return expression.test(name);
}
