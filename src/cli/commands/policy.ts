// `longline policy`: checks policy files and tells whether a job would run under one, and why not. Offline: asks files,
// no agent and no controller.
import { readFile } from 'node:fs/promises';
import { create } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { type JobSpec, JobSpecSchema } from '#gen/longline/v1/job_pb.js';
import { hostPaths } from '../../agent/policy/host-paths.ts';
import { explainJob, type JobExplanation } from '../../agent/policy/job-explanation.ts';
import { offlineJobs } from '../../agent/policy/offline-jobs.ts';
import { readPolicyFile } from '../../agent/policy/policy-store.ts';
import { readGuardedFile } from '../../agent/trust/guarded-file.ts';
import { readTrustFile } from '../../agent/trust/trust-store.ts';
import { type FieldViolation, LonglineError } from '../../core/errors.ts';
import { evaluatePolicy } from '../../core/policy/evaluation.ts';
import { DEFAULT_POLICY } from '../../core/policy/policy.ts';
import { parsePolicy } from '../../core/policy/policy-file.ts';
import { type CliIo, EXIT } from '../io.ts';
import { addSpecOptions, type SpecOptions, specOf } from '../job/spec-options.ts';
import { pairValue, repeated } from '../option-values.ts';
import { readJobSpec } from './key.ts';

/** Adds `policy`. */
export function registerPolicyCommands(program: Command, io: CliIo): void {
  const policy = program
    .command('policy')
    .description('Policy files of agents: check them, explain what they decide.')
    .addHelpText(
      'after',
      '\nExamples:\n  longline policy check /etc/longline/policy.toml\n  longline policy explain --policy policy.toml --image alpine:3.20 --network bridge -- wget example.org',
    );
  policy
    .command('check <path>')
    .description('List everything that is wrong with a policy file. Exit code 1 if something is.')
    .action(async (path: string) => await check(path, io));
  addSpecOptions(
    policy
      .command('explain [command...]')
      .description('Would this job run, and if not, which rule forbids it. Exit code 4 if it would not.')
      .optionsGroup('Who asks, and whom:')
      .option('--policy <path>', 'policy file; the built-in policy if left out')
      .option('--trust <path>', 'trust file to look the key up in; without it the key is taken as trusted')
      .option('--key-id <id>', 'key that would sign it; without it, one that no [[signers]] rule names')
      .option('--unsigned', 'ask for an unsigned job')
      .option('--controller-id <id>', 'controller it would come from', 'controller')
      .option('--agent-label <key=value>', 'label of the agent; repeatable', pairValue)
      .option('--allowed-image <pattern>', "the agent's allowed_images; repeatable (default: every image)", repeated)
      .option('--spec <path>', 'job as JSON of longline.v1.JobSpec, instead of options'),
  ).action(async (argv: readonly string[], options: ExplainOptions) => await explain(argv, options, io));
}

async function check(path: string, io: CliIo): Promise<void> {
  const faults = await faultsOf(path);
  if (faults.length > 0) io.exitCode = EXIT.failed;
  await io.result({ ok: faults.length === 0, path, errors: faults }, () => {
    if (faults.length === 0) return `${path}: ok`;
    return faults.map(({ field, description }) => `${path}: ${field}: ${description}`).join('\n');
  });
}

async function faultsOf(path: string): Promise<readonly FieldViolation[]> {
  const faults: FieldViolation[] = [];
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    const reason = error.code === 'ENOENT' ? 'not_found' : 'unavailable';
    throw new LonglineError(reason, `can't read policy file ${path}: ${error.message}`, { cause: error });
  });
  const note = (error: unknown) => {
    if (!(error instanceof LonglineError)) throw error;
    faults.push(...(error.violations.length > 0 ? error.violations : [{ field: 'file', description: error.message }]));
  };
  try {
    parsePolicy(text);
  } catch (error) {
    note(error);
  }
  await readGuardedFile(path, { what: 'policy file', secret: false }).catch(note);
  return faults;
}

interface ExplainOptions extends SpecOptions {
  readonly policy?: string;
  readonly trust?: string;
  readonly keyId?: string;
  readonly unsigned?: boolean;
  readonly controllerId: string;
  readonly agentLabel?: Record<string, string>;
  readonly allowedImage?: readonly string[];
  readonly spec?: string;
}

async function explain(argv: readonly string[], options: ExplainOptions, io: CliIo): Promise<void> {
  if (options.unsigned === true && options.keyId !== undefined) {
    throw new LonglineError('invalid', '--unsigned and --key-id were given; a job is signed or it is not');
  }
  const jobs = offlineJobs(options.allowedImage);
  const policy = options.policy === undefined ? DEFAULT_POLICY : await readPolicyFile(options.policy);
  const entries = options.trust === undefined ? undefined : await readTrustFile(options.trust);
  const { user: defaultUser, runtime: defaultRuntime } = jobs.defaults;
  const host = { paths: hostPaths([]), defaultUser, defaultRuntime };
  const explanation = explainJob(
    {
      jobs,
      nameplate: { agentId: options.agent ?? '', labels: options.agentLabel ?? {} },
      nowMs: Date.now(),
      findKey: entries === undefined ? undefined : (keyId) => entries.find((entry) => entry.keyId === keyId),
      evaluate: (request) => evaluatePolicy(policy, request, host),
    },
    {
      spec: await jobAskedFor(argv, options),
      keyId: options.unsigned === true ? undefined : (options.keyId ?? 'a-trusted-key'),
      controllerId: options.controllerId,
    },
  );
  if (!explanation.allowed) io.exitCode = EXIT.denied;
  const { allowed, decisions } = explanation;
  await io.result({ allowed, decisions }, () => explanationText(explanation, io));
}

async function jobAskedFor(argv: readonly string[], options: ExplainOptions): Promise<JobSpec> {
  if (options.spec !== undefined) {
    const spec = await readJobSpec(options.spec);
    // What runs is no matter of policy; a spec without a command is still worth a question.
    return spec.argv.length === 0 && spec.shell === '' ? create(JobSpecSchema, { ...spec, argv: ['true'] }) : spec;
  }
  return await specOf(options, argv.length === 0 && options.shell === undefined ? ['true'] : argv);
}

function explanationText({ allowed, decisions }: JobExplanation, io: CliIo): string {
  const lines = decisions.map(
    (decision) =>
      `${decision.allowed ? io.paint('green', 'allow') : io.paint('red', 'deny ')}  ${decision.rule}: ${decision.explanation}`,
  );
  const denied = decisions.find((decision) => !decision.allowed);
  lines.push(allowed ? 'The job would run.' : `The job would be refused: ${denied?.rule}.`);
  return lines.join('\n');
}
