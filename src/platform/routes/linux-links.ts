// Interfaces of Linux, through iproute2: one process reads a family, and one takes all steps, however many they are. A second
// takes the steps for IPv6 rules, which `ip` tells from those of IPv4 only by an option for the whole batch. Needs CAP_NET_ADMIN
// for what it writes. Fails with `unsupported` if there is no `ip`; what the kernel refuses is told step by step.
import type { FoundLink, LinkDriver, LinkRefusal, LinkStep, Sysctls } from '../../capabilities/network/ports.ts';
import type { CommandResult, RunCommand } from '../../core/command.ts';
import { LonglineError, type Reason, toLonglineError } from '../../core/errors.ts';
import { decodeLink, type FamilyAnswer, failedLines, readLines, stepLine } from './ip-batch.ts';

const VALID_MARK = 'net/ipv4/conf/all/src_valid_mark';

/** The kernel's interfaces. Holds nothing between calls. */
export class LinuxLinks implements LinkDriver {
  readonly marksRoutes = true;
  readonly hasRules = true;
  readonly #run: RunCommand;
  readonly #sysctls: Sysctls;

  constructor(run: RunCommand, sysctls: Sysctls) {
    this.#run = run;
    this.#sysctls = sysctls;
  }

  async read(name: string, signal?: AbortSignal): Promise<FoundLink> {
    const answers: FamilyAnswer[] = [];
    for (const family of [4, 6] as const) {
      const { code, stderr, stdout } = await this.#ip([`-${family}`, '-N', '-j', '-details'], readLines(name), signal);
      // A kernel without IPv6 has nothing to show of it.
      if (code !== 0 && family === 6 && /not supported/i.test(stderr)) continue;
      if (code !== 0 && !/does not exist|Cannot find device/.test(stderr)) {
        throw new LonglineError('unavailable', `ip can't read "${name}": ${firstWords(stderr)}`);
      }
      answers.push({ family, stdout });
    }
    const promotes = await this.#sysctls.read(promotionKey(name));
    return decodeLink(answers, promotes === '0');
  }

  async apply(name: string, steps: readonly LinkStep[], signal?: AbortSignal): Promise<readonly LinkRefusal[]> {
    const refusals: LinkRefusal[] = [];
    const plain: LinkStep[] = [];
    const rules6: LinkStep[] = [];
    for (const step of steps) {
      const error = await this.#prepare(name, step);
      if (error !== undefined) refusals.push({ step, error });
      else if ('rule' in step && step.rule.family === 6) rules6.push(step);
      else if (step.kind !== 'keep_secondaries') plain.push(step);
    }
    refusals.push(...(await this.#batch(name, [], plain, signal)));
    refusals.push(...(await this.#batch(name, ['-6'], rules6, signal)));
    return refusals;
  }

  /** Sets what the kernel needs before it is asked for a step. */
  async #prepare(name: string, step: LinkStep): Promise<LonglineError | undefined> {
    try {
      if (step.kind === 'keep_secondaries') await this.#sysctls.ensure(promotionKey(name), '1');
      // Replies to the tunnel come by the way that marked packets take: else a strict check of sources drops them.
      const marks = step.kind === 'add_rule' && step.rule.family === 4 && step.rule.kind === 'unmarked';
      if (marks) await this.#sysctls.ensure(VALID_MARK, '1');
      return undefined;
    } catch (error) {
      return toLonglineError(error);
    }
  }

  async #batch(
    name: string,
    options: readonly string[],
    steps: readonly LinkStep[],
    signal: AbortSignal | undefined,
  ): Promise<readonly LinkRefusal[]> {
    if (steps.length === 0) return [];
    const lines = steps.map((step) => `${stepLine(name, step)}\n`).join('');
    const { code, stderr } = await this.#ip([...options, '-force'], lines, signal);
    if (code === 0) return [];
    const failed = failedLines(stderr);
    if (failed.size === 0)
      throw new LonglineError('unavailable', `ip changed nothing it can name: ${firstWords(stderr)}`);
    return [...failed].map(([line, said]) => ({
      step: steps[line - 1]!,
      error: refusal(name, steps[line - 1]!, said),
    }));
  }

  #ip(options: readonly string[], stdin: string, signal: AbortSignal | undefined): Promise<CommandResult> {
    return this.#run({ argv: ['ip', ...options, '-batch', '-'], stdin }, signal);
  }
}

function promotionKey(name: string): string {
  return `net/ipv4/conf/${name}/promote_secondaries`;
}

function refusal(name: string, step: LinkStep, said: string): LonglineError {
  const [reason, more] = meaningOf(name, step, said);
  return new LonglineError(reason, `the kernel says "${said}"${more}`);
}

function meaningOf(name: string, step: LinkStep, said: string): readonly [Reason, string] {
  if (/File exists|already assigned/.test(said)) return ['already_exists', ': somebody else has set the same'];
  if (/not permitted/.test(said)) return ['unavailable', ': CAP_NET_ADMIN is needed'];
  if (step.kind === 'add_address' && step.address.includes(':') && /Permission denied|disabled/.test(said)) {
    return [
      'wrong_state',
      `: IPv6 is switched off here; set net.ipv6.conf.${name}.disable_ipv6 to 0, or name no IPv6 addresses`,
    ];
  }
  return ['invalid', ''];
}

function firstWords(stderr: string): string {
  return stderr.trim().slice(0, 300) || 'it gives no reason';
}
