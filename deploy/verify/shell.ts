// Shell scripts: syntax always, shellcheck where it is installed. On CI it has to be, so that its absence can't pass unseen.
import { runCommand } from '../dev/command.ts';
import { listFiles, readText } from './files.ts';
import type { Step } from './step.ts';

/** `npm run verify -- shell`. */
export const shellStep: Step = {
  name: 'shell',
  purpose: 'shell scripts parse, and shellcheck finds nothing',
  run: async (root) => {
    const candidates = (await listFiles(root)).filter(
      (path) => /^(\.ci|deploy|test)\//.test(path) && !/\.(ts|md|py)$/.test(path),
    );
    const scripts = candidates.filter((path) => /^#!.*\b(ba)?sh\b/.test(readText(root, path).slice(0, 80)));
    const output: string[] = [];
    for (const script of scripts) {
      const parsed = await runCommand(['bash', '-n', script], { cwd: root });
      if (parsed.code !== 0) output.push(parsed.stderr.trim());
    }
    const checked = await runCommand(['shellcheck', '--external-sources', ...scripts], { cwd: root });
    const absent = checked.code === 127;
    if (checked.code !== 0 && !absent) output.push(checked.stdout.trim());
    if (absent && process.env['CI']) output.push('shellcheck is not installed: run deploy/dev/setup verify');
    const how = absent ? 'syntax only, shellcheck is not installed' : 'with shellcheck';
    return {
      ok: output.length === 0 && scripts.length > 0,
      summary: `${scripts.length} scripts, ${how}`,
      output: output.join('\n'),
    };
  },
};
