// Reads one TypeScript module with a real parser (oxc): what it imports, by whatever means, and how long its functions are.
// It knows nothing about what is allowed. A file that doesn't parse is an error, never an empty module: a check that
// silently sees nothing can't fail.
import { parseSync, Visitor, type VisitorObject } from 'oxc-parser';

/** One reference to another module. */
export interface ModuleReference {
  /** As written; undefined if it is computed at run time. */
  readonly specifier: string | undefined;
  readonly line: number;
  /** True if nothing of it is left after type stripping. */
  readonly typeOnly: boolean;
}

/** One function with the lines it spans, first and last included. */
export interface FunctionSpan {
  readonly name: string;
  readonly line: number;
  readonly lines: number;
  /** True if `describe`, `suite`, `test` or `it` is called in it: it groups tests. */
  readonly declaresTests: boolean;
}

/** What a module is, as far as checks go. */
export interface ModuleFacts {
  readonly path: string;
  readonly references: readonly ModuleReference[];
  readonly functions: readonly FunctionSpan[];
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/** Gives 1-based line numbers for offsets. */
function lineIndex(text: string): (offset: number) => number {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  };
}

type Expression = { readonly type: string };

function literal(node: Expression | null | undefined): string | undefined {
  return node?.type === 'Literal' && 'value' in node && typeof node.value === 'string' ? node.value : undefined;
}

function calleeName(node: Expression): string {
  if (node.type === 'Identifier') return (node as Expression & { name: string }).name;
  if (node.type !== 'MemberExpression') return '';
  return calleeName((node as Expression & { object: Expression }).object);
}

/** Parses a module. Throws if it has a syntax error. */
export function readModule(path: string, text: string): ModuleFacts {
  const parsed = parseSync(path, text, { sourceType: 'module' });
  const lineOf = lineIndex(text);
  const problem = parsed.errors[0];
  if (problem !== undefined) {
    throw new Error(`${path}:${lineOf(problem.labels[0]?.start ?? 0)}: doesn't parse: ${problem.message}`);
  }
  const references: ModuleReference[] = [];
  const functions: FunctionSpan[] = [];
  const refer = (node: Span, specifier: string | undefined, typeOnly: boolean) =>
    references.push({ specifier, line: lineOf(node.start), typeOnly });
  new Visitor({ ...referenceVisitor(refer), ...functionVisitor(lineOf, functions) }).visit(parsed.program);
  return { path, references, functions };
}

function referenceVisitor(
  refer: (node: Span, specifier: string | undefined, typeOnly: boolean) => void,
): VisitorObject {
  return {
    ImportDeclaration: (node) => {
      const { specifiers } = node;
      const onlyTypes = specifiers.length > 0 && specifiers.every((s) => 'importKind' in s && s.importKind === 'type');
      refer(node, node.source.value, node.importKind === 'type' || onlyTypes);
    },
    ExportAllDeclaration: (node) => refer(node, node.source.value, node.exportKind === 'type'),
    ExportNamedDeclaration: (node) => {
      if (node.source !== null) refer(node, node.source.value, node.exportKind === 'type');
    },
    ImportExpression: (node) => refer(node, literal(node.source), false),
    TSImportType: (node) => refer(node, literal(node.source), true),
    'NewExpression:exit': (node) => {
      const [first, second] = node.arguments;
      // new URL('./worker.ts', import.meta.url) names a module that a worker or child process will load.
      if (calleeName(node.callee) !== 'URL' || second === undefined) return;
      const target = literal(first);
      if (target !== undefined && /^\.{1,2}\/.*\.[cm]?[jt]s$/.test(target)) refer(node, target, false);
    },
  };
}

const TEST_DECLARATIONS = new Set(['describe', 'suite', 'test', 'it']);

interface OpenFunction {
  readonly start: number;
  declaresTests: boolean;
}

function functionVisitor(lineOf: (offset: number) => number, functions: FunctionSpan[]): VisitorObject {
  const names = new Map<number, string>();
  const open: OpenFunction[] = [];
  const enter = (node: Span) => open.push({ start: node.start, declaresTests: false });
  const leave = (node: Span & { id?: { name: string } | null }) => {
    const line = lineOf(node.start);
    const name = node.id?.name ?? names.get(node.start) ?? '(anonymous)';
    functions.push({ name, line, lines: lineOf(node.end) - line + 1, declaresTests: open.pop()!.declaresTests });
  };
  return {
    CallExpression: (node) => {
      if (node.callee.type !== 'Identifier' || !TEST_DECLARATIONS.has(node.callee.name)) return;
      for (const around of open) around.declaresTests = true;
    },
    MethodDefinition: (node) => {
      if ('name' in node.key && typeof node.key.name === 'string') names.set(node.value.start, node.key.name);
    },
    VariableDeclarator: (node) => {
      if (node.init !== null && node.id.type === 'Identifier') names.set(node.init.start, node.id.name);
    },
    FunctionDeclaration: enter,
    FunctionExpression: enter,
    ArrowFunctionExpression: enter,
    'FunctionDeclaration:exit': leave,
    'FunctionExpression:exit': leave,
    'ArrowFunctionExpression:exit': leave,
  };
}
