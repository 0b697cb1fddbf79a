// `longline network apply|ls|rm`: networks of agents of a fleet.
import { create } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import type { Network } from '#gen/longline/fleet/v1/network_service_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { type NetworkProblem, NetworkSpecSchema, NetworkState } from '#gen/longline/v1/network_pb.js';
import { LonglineError, type Reason } from '../../core/errors.ts';
import { type NetworkFile, readNetworkFile } from '../../core/network/network-file.ts';
import { messageOf } from '../../core/network/network-message.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { type CliIo, EXIT, toJson } from '../io.ts';
import { readNamedFile } from '../message-file.ts';
import { countValue, repeated } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText } from '../table.ts';
import { addWaitOptions, type WaitOptions, waitFor } from '../waiting.ts';
import { fleetNetworkView, fleetStateText, isBroughtAbout, networkColumns, problemView } from './fleet-views.ts';

const APPLY_HELP = `
The file is that of \`network up\`: networks that are enabled in it are made so, those that are not are taken away, and others
that the agent has stay. Keys stay on the host; the file names their paths there.

Examples:
  longline network apply --agent web-1 --file network.toml --dry-run
  longline network apply --agent web-1 --file network.toml --wait`;

interface ApplyOptions extends WaitOptions {
  readonly agent: string;
  readonly file: string;
  readonly network?: readonly string[];
  readonly dryRun?: boolean;
}

/** What became of one network of the file. */
interface Applied {
  readonly name: string;
  readonly outcome: 'changed' | 'unchanged' | 'removed' | 'absent';
  readonly network: Network | undefined;
  readonly warnings: readonly NetworkProblem[];
}

/** Adds `apply`. */
export function registerApply(network: Command, io: CliIo): void {
  const apply = network
    .command('apply')
    .description("Make an agent's networks be as in a file.")
    .requiredOption('--agent <id>', 'which agent')
    .requiredOption('--file <path>', 'file of networks')
    .option('--network <name>', 'only this network of the file; repeatable', repeated)
    .option('--dry-run', 'check it and say what would change; nothing is stored');
  addWaitOptions(apply, 'the agent has brought it about')
    .addHelpText('after', APPLY_HELP)
    .action(async (options: ApplyOptions, command: Command) => {
      const file = readNetworkFile(await readNamedFile(options.file));
      for (const warning of file.warnings) await io.note(`warning: ${plainText(warning)}`);
      const networks = chosen(file, options);
      await withFleet(io, command, async (fleet) => {
        const applied: Applied[] = [];
        for (const one of networks) applied.push(await applyOne(fleet, options, one));
        const ended = options.wait && !options.dryRun ? await waitForAll(fleet, options, applied) : applied;
        await tell(io, ended, options);
      });
    });
}

function chosen({ networks }: NetworkFile, { file, network: names }: ApplyOptions): NetworkFile['networks'] {
  const known = networks.map(({ spec }) => spec.name);
  if (known.length === 0) throw new LonglineError('invalid', `${file} has no [network.NAME]`);
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new LonglineError('invalid', `--network ${unknown}: ${file} has only ${known.join(', ')}`);
  }
  return names === undefined ? networks : networks.filter(({ spec }) => names.includes(spec.name));
}

async function applyOne(
  fleet: Fleet,
  { agent: agentId, dryRun = false }: ApplyOptions,
  { enabled, spec }: NetworkFile['networks'][number],
): Promise<Applied> {
  const { name } = spec;
  if (enabled) {
    const message = create(NetworkSpecSchema, messageOf(spec));
    const answer = await fleet.networks.putNetwork({ agentId, spec: message, validateOnly: dryRun });
    const { changed, network, warnings } = answer;
    return { name, outcome: changed ? 'changed' : 'unchanged', network, warnings };
  }
  const found = await existing(fleet, agentId, name);
  if (found === undefined) return { name, outcome: 'absent', network: undefined, warnings: [] };
  const { network } = dryRun ? { network: found } : await fleet.networks.deleteNetwork({ agentId, name });
  return { name, outcome: 'removed', network, warnings: [] };
}

async function existing(fleet: Fleet, agentId: string, name: string): Promise<Network | undefined> {
  const { networks } = await fleet.networks.listNetworks({ filter: { agentId, name }, withoutPeers: true });
  return networks[0];
}

/** The networks once they are as wanted. Throws what the agent refused, and `late`. */
async function waitForAll(fleet: Fleet, options: ApplyOptions, applied: readonly Applied[]): Promise<Applied[]> {
  const ended: Applied[] = [];
  for (const one of applied) {
    const network = await waitForNetwork(fleet, options.agent, one.name, options.limit);
    ended.push({ ...one, network });
  }
  return ended;
}

/** The network once it works or fails, or undefined once it is gone. Throws what the agent refused, and `late`. */
async function waitForNetwork(
  fleet: Fleet,
  agentId: string,
  name: string,
  limitMs: number,
): Promise<Network | undefined> {
  let last: Network | undefined;
  const found = await waitFor(
    fleet,
    limitMs,
    async () => {
      last = await existing(fleet, agentId, name);
      if (last?.error !== undefined) throw refusal(agentId, last);
      const ended = last === undefined || isBroughtAbout(last) || (last.applied && isFailed(last));
      return ended ? { network: last } : undefined;
    },
    () => `network ${name} of agent ${agentId} is ${last === undefined ? 'unknown' : fleetStateText(last)}`,
  );
  return found.network;
}

function isFailed({ status }: Network): boolean {
  return status?.state === NetworkState.FAILED;
}

function refusal(agentId: string, { error, spec }: Network): LonglineError {
  const reason = (ErrorReason[error!.reason] ?? 'INTERNAL').toLowerCase() as Reason;
  const message = `agent ${agentId} refused network ${spec?.name}: ${error!.message}`;
  return new LonglineError(reason, message, { violations: error!.violations });
}

async function tell(io: CliIo, applied: readonly Applied[], { agent, dryRun }: ApplyOptions): Promise<void> {
  if (applied.some(({ network }) => network !== undefined && isFailed(network))) io.exitCode = EXIT.failed;
  if (io.json) {
    const views = applied.map(({ name, network, outcome, warnings }) => {
      const view = network === undefined ? null : fleetNetworkView(network);
      return { name, outcome, warnings: warnings.map(problemView), network: view };
    });
    return await io.stdout.line(toJson({ agent_id: agent, dry_run: dryRun === true, networks: views }));
  }
  for (const { name, network, outcome, warnings } of applied) {
    for (const { field, message } of warnings) await io.note(`warning: ${plainText(`${name}: ${field}: ${message}`)}`);
    for (const problem of network?.status?.problems ?? []) {
      const label = problem.harmless ? 'note' : io.paint('red', 'problem', io.stderr);
      await io.note(`${label}: ${plainText(`${name}: ${problem.field}: ${problem.message}`)}`);
    }
    const would = dryRun && (outcome === 'changed' || outcome === 'removed') ? 'would be ' : '';
    const state = dryRun || network === undefined ? '' : ` (${fleetStateText(network)})`;
    await io.stdout.line(plainText(`${agent} ${name}: ${would}${outcome}${state}`));
  }
}

interface ListOptions {
  readonly agent?: string;
  readonly mesh?: string;
  readonly name?: string;
  readonly limit: number;
}

/** Adds `ls`. */
export function registerList(network: Command, io: CliIo): void {
  network
    .command('ls')
    .description('List the networks of a fleet by agent and name.')
    .option('--agent <id>', 'only of this agent')
    .option('--mesh <name>', 'only of this mesh')
    .option('--name <name>', 'only of this name')
    .option('--limit <n>', 'most networks; 0 for all', countValue(0, 1_000_000), 100)
    .action(async ({ agent = '', mesh = '', name = '', limit }: ListOptions, command: Command) => {
      const filter = { agentId: agent, mesh, name };
      const networks = await withFleet(io, command, (fleet) =>
        readPages(limit, async (pageToken, pageSize) => {
          const page = await fleet.networks.listNetworks({ filter, pageToken, pageSize, withoutPeers: true });
          return { items: page.networks, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(networks.map(fleetNetworkView)));
      await io.list(networks, networkColumns(Date.now()), 'no networks; `longline network apply` makes one');
    });
}

/** Adds `rm`. */
export function registerRemove(network: Command, io: CliIo): void {
  const remove = network
    .command('rm <name...>')
    .description("Take an agent's networks away.")
    .requiredOption('--agent <id>', 'which agent');
  addWaitOptions(remove, 'the agent has taken them down').action(
    async (names: string[], { agent: agentId, limit, wait }: WaitOptions & { agent: string }, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        for (const name of names) await fleet.networks.deleteNetwork({ agentId, name });
        if (wait) for (const name of names) await waitForNetwork(fleet, agentId, name, limit);
      });
      await io.result({ agent_id: agentId, removed: names, gone: wait === true }, () =>
        plainText(`${names.join(', ')} of ${agentId} ${wait ? 'removed' : 'being removed'}`),
      );
    },
  );
}
