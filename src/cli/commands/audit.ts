// `longline audit`: verifies and exports the audit log of an agent from its file, also while the agent runs, and lists the
// signed heads that the controller holds of it.
import { join } from 'node:path';
import { toJson as messageToJson } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Command } from 'commander';
import { type StoredAuditCheckpoint, StoredAuditCheckpointSchema } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { exportAuditLog } from '../../agent/audit/export.ts';
import { type AuditVerification, verifyAuditLog } from '../../agent/audit/verification.ts';
import { AUDIT_EVENTS } from '../../core/audit/audit-record.ts';
import { LonglineError } from '../../core/errors.ts';
import { fetchCheckpoints, keptCheckpoint, readCheckpointFile } from '../audit/checkpoint-source.ts';
import { type CliIo, EXIT, toJson } from '../io.ts';
import { countValue, wordValue } from '../option-values.ts';
import { timeValue } from '../time-value.ts';

const eventValue = wordValue(Object.fromEntries(AUDIT_EVENTS.map((event) => [event, event])));

interface FileOptions {
  readonly dataDir?: string;
  readonly file?: string;
}

/** Adds `audit`. */
export function registerAuditCommands(program: Command, io: CliIo): void {
  const audit = program
    .command('audit')
    .description('Audit logs of agents: verify, export, list checkpoints.')
    .addHelpText(
      'after',
      '\nExamples:\n  longline audit verify --data-dir /var/lib/longline --agent web-1\n  longline audit export --data-dir /var/lib/longline --event refused\n  longline audit checkpoints web-1 --json > web-1.checkpoints',
    );
  withFileOptions(audit.command('verify'))
    .description('Find edits, cuts, reorderings and truncation. Exit code 1 if there are any.')
    .option('--checkpoints <path>', 'checkpoints kept elsewhere, as `audit checkpoints --json` writes them')
    .option('--agent <id>', 'compare with the checkpoints that the controller holds of this agent')
    .action(async (options: VerifyOptions, command: Command) => await verify(options, command, io));
  withFileOptions(audit.command('export'))
    .description('Write records as JSON lines, oldest first, each with its hash in the chain.')
    .option('--from <time>', 'only from then on, like 2030-01-31T12:00:00Z', timeValue)
    .option('--to <time>', 'only before', timeValue)
    .option('--event <name>', 'only of this event, like refused', eventValue)
    .option('--command <id>', 'only of this command')
    .action(async (options: ExportOptions) => await exportRecords(options, io));
  audit
    .command('checkpoints <agent>')
    .description('List the signed heads that the controller holds of an agent, newest first.')
    .option('--limit <n>', 'most checkpoints; 0 for all', countValue(0, 1_000_000), 0)
    .action(async (agent: string, { limit }: { limit: number }, command: Command) => {
      await listCheckpoints(await fetchCheckpoints(io, command, agent, limit), io);
    });
}

function withFileOptions(command: Command): Command {
  return command
    .option('--data-dir <path>', "the agent's data folder")
    .option('--file <path>', 'the audit log itself, instead of --data-dir');
}

function fileOf({ dataDir, file }: FileOptions): string {
  if ((dataDir === undefined) === (file === undefined)) {
    throw new LonglineError('invalid', 'which log? Give exactly one of --data-dir and --file');
  }
  return file ?? join(dataDir!, 'audit.db');
}

interface VerifyOptions extends FileOptions {
  readonly checkpoints?: string;
  readonly agent?: string;
}

async function verify(options: VerifyOptions, command: Command, io: CliIo): Promise<void> {
  const path = fileOf(options);
  const kept: StoredAuditCheckpoint[] = [];
  if (options.checkpoints !== undefined) kept.push(...(await readCheckpointFile(options.checkpoints)));
  if (options.agent !== undefined) kept.push(...(await fetchCheckpoints(io, command, options.agent)));
  const asked = options.checkpoints !== undefined || options.agent !== undefined;
  if (asked && kept.length === 0) {
    const from = options.agent === undefined ? options.checkpoints : `agent ${options.agent}`;
    const message = `there is no checkpoint of ${from} to compare with; see \`longline agents ls\` and \`longline audit checkpoints AGENT\``;
    throw new LonglineError('not_found', message);
  }
  const startedAt = performance.now();
  const verification = verifyAuditLog(path, kept.map(keptCheckpoint));
  const seconds = (performance.now() - startedAt) / 1000;
  const { chainId, records, head, checkpoints, coveredSequence, findings } = verification;
  if (findings.length > 0) io.exitCode = EXIT.failed;
  const view = {
    ok: findings.length === 0,
    path,
    chain_id: chainId,
    records,
    head: Buffer.from(head).toString('hex'),
    checkpoints,
    covered_sequence: asked ? coveredSequence : null,
    seconds: Number(seconds.toFixed(3)),
    findings: findings.map((finding) => ({ ...finding, sequence: finding.sequence ?? null })),
  };
  await io.result(view, () => verificationText(path, verification, asked));
}

function verificationText(path: string, verification: AuditVerification, asked: boolean): string {
  const { chainId, records, checkpoints, coveredSequence, findings } = verification;
  const lines = [`${path}: chain ${chainId}, ${records} records, ${checkpoints} checkpoints`];
  for (const { kind, sequence, explanation } of findings) {
    lines.push(`  ${kind}${sequence === undefined ? '' : ` at record ${sequence}`}: ${explanation}`);
  }
  if (findings.length > 0) lines.push('The log is not as it was written.');
  else if (!asked) {
    lines.push('Every record follows from the one before. Only checkpoints kept elsewhere show that none is missing');
    lines.push('at the end and that the chain was not written anew: add --agent or --checkpoints.');
  } else
    lines.push(
      `The log is as it was written, up to record ${coveredSequence} by the word of checkpoints kept elsewhere.`,
    );
  return lines.join('\n');
}

interface ExportOptions extends FileOptions {
  readonly from?: number;
  readonly to?: number;
  readonly event?: string;
  readonly command?: string;
}

async function exportRecords(options: ExportOptions, io: CliIo): Promise<void> {
  const { from, to, event, command } = options;
  const filter = {
    ...(from === undefined ? {} : { fromMs: from }),
    ...(to === undefined ? {} : { toMs: to }),
    ...(event === undefined ? {} : { event }),
    ...(command === undefined ? {} : { commandId: command }),
  };
  for (const lines of exportAuditLog(fileOf(options), filter)) {
    if (io.stdout.closed.aborted) return;
    await io.stdout.write(lines);
  }
}

async function listCheckpoints(checkpoints: readonly StoredAuditCheckpoint[], io: CliIo): Promise<void> {
  if (io.json) {
    const views = checkpoints.map((one) =>
      messageToJson(StoredAuditCheckpointSchema, one, { useProtoFieldName: true }),
    );
    return await io.stdout.line(toJson(views));
  }
  const time = (one: StoredAuditCheckpoint) => (one.time === undefined ? '' : timestampDate(one.time).toISOString());
  await io.list(
    checkpoints,
    [
      { heading: 'record', align: 'right', value: (one) => String(one.sequence) },
      { heading: 'signed', value: time },
      { heading: 'head', value: (one) => Buffer.from(one.head).toString('hex') },
      { heading: 'chain', value: (one) => one.chainId },
    ],
    'no audit checkpoints',
  );
}
