// Keeps files and functions short enough to be read in one go.
import { countLines, isOwnTypeScript, listFiles, readText } from './files.ts';
import { type FunctionSpan, readModule } from './modules.ts';
import { findingsResult, type Step } from './step.ts';

const FILE_SOFT_LINES = 300;
const FILE_HARD_LINES = 400;
const TEST_HARD_LINES = 600;
const FUNCTION_LINES = 60;
const MEDIAN_LINES = 120;

/** What is too long. */
export interface SizeReport {
  readonly findings: readonly string[];
  readonly warnings: readonly string[];
  readonly medianLines: number;
}

/** True for a body that only groups tests: it has no logic to keep short. */
function isTestGroup(path: string, span: FunctionSpan): boolean {
  return path.startsWith('test/') && span.declaresTests;
}

/** Measures files. `sources` maps repository paths to texts. */
export function inspectSizes(sources: ReadonlyMap<string, string>): SizeReport {
  const findings: string[] = [];
  const warnings: string[] = [];
  const counts: number[] = [];
  for (const [path, text] of sources) {
    const lines = countLines(text);
    const hard = path.startsWith('test/') ? TEST_HARD_LINES : FILE_HARD_LINES;
    counts.push(lines);
    if (lines > hard) findings.push(`${path}: ${lines} lines, at most ${hard}`);
    else if (lines > FILE_SOFT_LINES && hard === FILE_HARD_LINES) warnings.push(`${path}: ${lines} lines`);
    try {
      for (const span of readModule(path, text).functions) {
        if (span.lines <= FUNCTION_LINES || isTestGroup(path, span)) continue;
        findings.push(`${path}:${span.line}: ${span.name} has ${span.lines} lines, at most ${FUNCTION_LINES}`);
      }
    } catch (error) {
      findings.push((error as Error).message);
    }
  }
  const medianLines = counts.sort((a, b) => a - b)[counts.length >> 1] ?? 0;
  if (medianLines > MEDIAN_LINES) warnings.push(`median file has ${medianLines} lines, aim for ${MEDIAN_LINES}`);
  return { findings, warnings, medianLines };
}

/** `npm run verify -- sizes`. */
export const sizesStep: Step = {
  name: 'sizes',
  purpose: `files ≤ ${FILE_HARD_LINES} lines (tests ${TEST_HARD_LINES}), functions ≤ ${FUNCTION_LINES}`,
  run: async (root) => {
    const paths = (await listFiles(root)).filter(isOwnTypeScript);
    const report = inspectSizes(new Map(paths.map((path) => [path, readText(root, path)])));
    return findingsResult(
      report.findings,
      `${paths.length} files, median ${report.medianLines} lines`,
      report.warnings,
    );
  },
};
