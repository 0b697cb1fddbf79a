// Facts of the machine and tree a figure was taken on: without them it says nothing.
import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, loadavg, platform, release, totalmem } from 'node:os';
import { runCommand } from '../../deploy/dev/command.ts';

/** Facts by name. No name or path of the machine. */
export async function machineFacts(): Promise<Readonly<Record<string, string>>> {
  const revision = await runCommand(['git', 'rev-parse', '--short', 'HEAD']);
  const changed = await runCommand(['git', 'status', '--porcelain']);
  return {
    date: new Date().toISOString(),
    revision: `${revision.stdout.trim()}${changed.stdout === '' ? '' : ' with changes'}`,
    system: `${platform()}/${arch()} ${release()}`,
    distribution: distribution(),
    processor: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} cores`,
    memory: `${(totalmem() / 1024 ** 3).toFixed(0)} GiB`,
    load: loadavg()[0]!.toFixed(2),
    node: process.version,
  };
}

function distribution(): string {
  try {
    return /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown';
  } catch {
    return 'unknown';
  }
}
