// The commands by their first word, each in a file of its own that is loaded only when that word is used: a
// `longline --help` must not pay for the libraries of all of them.
import { Command, type CommanderError } from 'commander';
import { addGlobalOptions } from './global-options.ts';
import type { CliIo } from './io.ts';

type Register = (program: Command, io: CliIo) => void;

interface CommandGroup {
  readonly name: string;
  readonly summary: string;
  readonly heading: string;
  readonly load: () => Promise<Register>;
}

const RUN = 'Run:';
const OPERATE = 'Operate:';
const SECURE = 'Secure:';
const HELP = 'Look up:';

const GROUPS: readonly CommandGroup[] = [
  {
    name: 'controller',
    summary: 'run a controller',
    heading: RUN,
    load: async () => (await import('./commands/controller.ts')).registerControllerCommands,
  },
  {
    name: 'agent',
    summary: 'run the agent of this host',
    heading: RUN,
    load: async () => (await import('./commands/agent.ts')).registerAgentCommands,
  },
  {
    name: 'job',
    summary: 'run, follow and list jobs',
    heading: OPERATE,
    load: async () => (await import('./commands/job.ts')).registerJobCommands,
  },
  {
    name: 'session',
    summary: 'start, hibernate, wake and look at sessions',
    heading: OPERATE,
    load: async () => (await import('./commands/session.ts')).registerSessionCommands,
  },
  {
    name: 'template',
    summary: 'keep session specs by name and version',
    heading: OPERATE,
    load: async () => (await import('./commands/template.ts')).registerTemplateCommands,
  },
  {
    name: 'network',
    summary: 'keep, show and take down WireGuard networks',
    heading: OPERATE,
    load: async () => (await import('./commands/network.ts')).registerNetworkCommands,
  },
  {
    name: 'program',
    summary: 'pack, load, roll out and roll back eBPF programs',
    heading: OPERATE,
    load: async () => (await import('./commands/program.ts')).registerProgramCommands,
  },
  {
    name: 'agents',
    summary: 'list and manage the agents of a fleet',
    heading: OPERATE,
    load: async () => (await import('./commands/agents.ts')).registerAgentsCommands,
  },
  {
    name: 'token',
    summary: 'registration tokens for agents, API tokens for callers',
    heading: OPERATE,
    load: async () => (await import('./commands/token.ts')).registerTokenCommands,
  },
  {
    name: 'status',
    summary: 'state of the agent on this host',
    heading: OPERATE,
    load: async () => (await import('./commands/status.ts')).registerStatusCommands,
  },
  {
    name: 'doctor',
    summary: 'check this host and the way to the controller',
    heading: OPERATE,
    load: async () => (await import('./commands/doctor.ts')).registerDoctorCommands,
  },
  {
    name: 'key',
    summary: 'make and show signing keys',
    heading: SECURE,
    load: async () => (await import('./commands/key.ts')).registerKeyCommands,
  },
  {
    name: 'policy',
    summary: 'check policy files, explain decisions',
    heading: SECURE,
    load: async () => (await import('./commands/policy.ts')).registerPolicyCommands,
  },
  {
    name: 'audit',
    summary: 'verify and export audit logs',
    heading: SECURE,
    load: async () => (await import('./commands/audit.ts')).registerAuditCommands,
  },
  {
    name: 'config',
    summary: 'reference and example of all settings',
    heading: HELP,
    load: async () => (await import('./commands/config.ts')).registerConfigCommands,
  },
  {
    name: 'completion',
    summary: 'completion script for a shell',
    heading: HELP,
    load: async () => {
      const { registerCompletionCommands } = await import('./commands/completion.ts');
      const silent: HelpSink = { out: () => undefined, err: () => undefined };
      return (program, io) => registerCompletionCommands(program, io, () => createProgram('all', io, silent));
    },
  },
  {
    name: 'version',
    summary: 'versions of longline and its runtime',
    heading: HELP,
    load: async () => (await import('./commands/version.ts')).registerVersionCommands,
  },
];

const DESCRIPTION = `One agent per host, one connection to a controller: signed jobs in sandboxed containers, sessions that stay.

Exit codes: 0 ok, 1 failed, 2 wrong usage or value, 3 not found, 4 not allowed, 5 can't be reached,
124 time limit, 130 interrupted, 141 output closed. \`job run\` passes the job's own exit code on.`;

const EXAMPLES = `
Examples:
  longline controller --data-dir ./controller --listen 127.0.0.1:7443
  longline token create --json
  longline agent --controller https://127.0.0.1:7443 --token TOKEN --data-dir ./agent
  longline job run --agent web-1 --image alpine:latest -- uname -a
  longline session start --any zone=eu --template desktop --id alice-desk
  longline agents ls --selector zone=eu`;

/** Where commander's own texts (help, usage) go; kept until they can be written with backpressure. */
export interface HelpSink {
  out(text: string): void;
  err(text: string): void;
}

/** The command tree. Only the groups named by `words` are loaded; `'all'` loads every one. */
export async function createProgram(words: readonly string[] | 'all', io: CliIo, sink: HelpSink): Promise<Command> {
  const program = new Command('longline')
    .description(DESCRIPTION)
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .helpCommand('help [command]', 'help for a command')
    .exitOverride((error: CommanderError) => {
      throw error;
    })
    .configureOutput({
      writeOut: (text) => sink.out(text),
      writeErr: (text) => sink.err(text),
      // The error itself is thrown and shown by whoever runs the program.
      outputError: () => undefined,
      getOutHelpWidth: () => Math.min(io.stdout.columns, 120),
      getErrHelpWidth: () => Math.min(io.stderr.columns, 120),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
  for (const group of GROUPS) {
    if (words === 'all' || words.includes(group.name)) (await group.load())(program, io);
    else program.command(group.name).description(group.summary);
    program.commands.find((command) => command.name() === group.name)?.helpGroup(group.heading);
  }
  addGlobalOptions(program);
  return program.addHelpText('after', EXAMPLES);
}
