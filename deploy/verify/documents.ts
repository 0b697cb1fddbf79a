// Documents must not point nowhere: relative links lead to files and headings that exist, and every `npm run X` is a script.
import { existsSync } from 'node:fs';
import { join, posix } from 'node:path';
import { listFiles, readText } from './files.ts';
import { findingsResult, type Step } from './step.ts';

/** Anchor of a heading, made as code hosts make it. */
function anchorOf(heading: string): string {
  const plain = heading.replace(/[`*]/g, '').trim().toLowerCase();
  return plain.replace(/[^\p{L}\p{N}\s_-]/gu, '').replace(/\s/g, '-');
}

function anchorsOf(text: string): ReadonlySet<string> {
  const body = text.replace(/^```.*?^```/gms, '');
  return new Set([...body.matchAll(/^#{1,6} (.+)$/gm)].map((match) => anchorOf(match[1]!)));
}

/** Findings in one document. */
export function inspectDocument(root: string, path: string, scripts: ReadonlySet<string>): readonly string[] {
  const text = readText(root, path);
  const findings: string[] = [];
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target!)) continue;
    const [file, anchor] = target!.split('#');
    const linked = file === '' ? path : posix.join(posix.dirname(path), file!);
    if (!existsSync(join(root, linked))) findings.push(`${path}: link to ${target} leads nowhere`);
    else if (anchor && linked.endsWith('.md') && !anchorsOf(readText(root, linked)).has(anchor)) {
      findings.push(`${path}: ${linked} has no heading #${anchor}`);
    }
  }
  for (const [, script] of text.matchAll(/npm run (?:-s )?([a-z][a-z-]*)/g)) {
    if (!scripts.has(script!)) findings.push(`${path}: npm run ${script} is no script of package.json`);
  }
  return findings;
}

/** `npm run verify -- documents`. */
export const documentsStep: Step = {
  name: 'documents',
  purpose: 'links and commands in the documents lead somewhere',
  run: async (root) => {
    const paths = (await listFiles(root)).filter((path) => path.endsWith('.md'));
    const manifest = JSON.parse(readText(root, 'package.json')) as { scripts?: Record<string, string> };
    const scripts = new Set(Object.keys(manifest.scripts ?? {}));
    return findingsResult(
      paths.flatMap((path) => inspectDocument(root, path, scripts)),
      `${paths.length} documents`,
    );
  },
};
