// `longline network mesh`: networks of which the controller computes peers, addresses and keys' places.
import { create } from '@bufbuild/protobuf';
import { type Command, InvalidArgumentError } from 'commander';
import {
  type Mesh,
  type MeshMember,
  MeshMemberSchema,
  type MeshSpec,
  MeshSpecSchema,
  MeshTopology,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { type CliIo, toJson } from '../io.ts';
import { messageFrom, parseTable, readNamedFile } from '../message-file.ts';
import { countValue, repeated, wordValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText, renderTable } from '../table.ts';
import { addWaitOptions, type WaitOptions, waitFor } from '../waiting.ts';
import { isMeshSettled, memberColumns, meshColumns, meshView, topologyName } from './fleet-views.ts';

const EXAMPLES = `
Examples:
  longline network mesh create office --pool 10.100.0.0/16 --member web-1=web-1.example.org --member laptop --wait
  longline network mesh put --file mesh.toml --wait
  longline network mesh join office --agent web-2 --endpoint web-2.example.org
  longline network mesh get office`;

const FILE_HELP = `
A file is TOML, or JSON if it ends in .json, with the fields of a mesh:

  name = "office"
  pool = "10.100.0.0/16"
  subnet_pool = "10.200.0.0/16"
  topology = "hub"
  rotate_every = "720h"
  [[members]]
  agent_id = "web-1"
  endpoint = "web-1.example.org"
  hub = true
  [[members]]
  agent_id = "laptop"
  routes = ["192.168.7.0/24"]`;

/** Adds `mesh`. */
export function registerMesh(network: Command, io: CliIo): void {
  const mesh = network
    .command('mesh')
    .description('Meshes: networks of many agents, with peers and addresses by the controller.')
    .addHelpText('after', EXAMPLES);
  registerPut(mesh, io);
  registerCreate(mesh, io);
  registerReading(mesh, io);
  registerMembers(mesh, io);
  registerRemove(mesh, io);
}

/** Undefined if there is none of this name. */
async function existing(fleet: Fleet, name: string): Promise<Mesh | undefined> {
  try {
    return (await fleet.networks.getMesh({ name })).mesh;
  } catch (error) {
    const thrown = fleet.toError(error);
    if (thrown instanceof LonglineError && thrown.reason === 'not_found') return undefined;
    throw error;
  }
}

/** The mesh once all its members are as wanted. Throws `late`. */
async function settled(fleet: Fleet, name: string, limitMs: number): Promise<Mesh> {
  let last: Mesh | undefined;
  return await waitFor(
    fleet,
    limitMs,
    async () => {
      last = (await fleet.networks.getMesh({ name })).mesh!;
      return isMeshSettled(last) ? last : undefined;
    },
    () => {
      const open = (last?.members ?? []).filter((one) => !one.applied || one.leaving || one.publicKey === '');
      const ids = open.slice(0, 5).map(({ member }) => member?.agentId);
      return `mesh ${name} waits for ${open.length} members (${ids.join(', ')}${open.length > 5 ? ', …' : ''})`;
    },
  );
}

/** Shows a mesh after a change, waiting if that was asked for. */
async function conclude(io: CliIo, fleet: Fleet, mesh: Mesh, options: WaitOptions, text: string): Promise<void> {
  const name = mesh.spec!.name;
  const last = options.wait ? await settled(fleet, name, options.limit) : mesh;
  for (const warning of last.warnings) await io.note(`warning: ${plainText(warning)}`);
  await io.result(meshView(last), () => plainText(`${name} ${text}${options.wait ? ', all members ready' : ''}`));
}

async function putMesh(io: CliIo, command: Command, spec: MeshSpec, options: WaitOptions, dryRun: boolean) {
  await withFleet(io, command, async (fleet) => {
    const { changed, mesh } = await fleet.networks.putMesh({ spec, validateOnly: dryRun });
    const text = `${dryRun && changed ? 'would be ' : ''}${changed ? 'changed' : 'unchanged'}`;
    await conclude(io, fleet, mesh!, dryRun ? { ...options, wait: false } : options, text);
  });
}

function registerPut(mesh: Command, io: CliIo): void {
  const put = mesh
    .command('put')
    .description('Make a mesh be as in a file: who is new there joins, who is not there any more leaves.')
    .requiredOption('--file <path>', 'file of the mesh')
    .option('--dry-run', 'check it and show what it would be; nothing is stored');
  addWaitOptions(put, 'all members have done what they were asked')
    .addHelpText('after', FILE_HELP)
    .action(async (options: WaitOptions & { file: string; dryRun?: boolean }, command: Command) => {
      const { file } = options;
      const spec = messageFrom(MeshSpecSchema, parseTable(await readNamedFile(file), file), file);
      await putMesh(io, command, spec, options, options.dryRun === true);
    });
}

interface CreateOptions extends WaitOptions {
  readonly pool: string;
  readonly subnetPool?: string;
  readonly topology: MeshTopology;
  readonly interface?: string;
  readonly port: number;
  readonly member?: readonly MeshMember[];
  readonly hub?: readonly MeshMember[];
}

const TOPOLOGIES = { full: MeshTopology.FULL, hub: MeshTopology.HUB };

/** "web-1" or "web-1=host:port", collected. */
function memberValue(hub: boolean) {
  return (text: string, before: readonly MeshMember[] | undefined): readonly MeshMember[] => {
    const [, agentId, endpoint = ''] = /^([A-Za-z0-9._-]{1,128})(?:=(.+))?$/.exec(text) ?? [];
    if (agentId === undefined) throw new InvalidArgumentError('Give AGENT or AGENT=HOST[:PORT].');
    return [...(before ?? []), create(MeshMemberSchema, { agentId, endpoint, hub })];
  };
}

function registerCreate(mesh: Command, io: CliIo): void {
  const add = mesh
    .command('create <name>')
    .description('Make a mesh; one of this name must not be there. For all it can be, use put.')
    .requiredOption('--pool <prefix>', 'prefix that addresses are taken from, "10.100.0.0/16"')
    .option('--subnet-pool <prefix>', "prefix that members' subnets for containers are taken from")
    .option('--topology <kind>', 'full or hub', wordValue(TOPOLOGIES), MeshTopology.FULL)
    .option('--interface <name>', "interface on each member; the mesh's name if left out and it fits")
    .option('--port <n>', 'UDP port of members with an endpoint', countValue(1, 65_535), 51_820)
    .option('--member <agent[=endpoint]>', 'a member; repeatable', memberValue(false))
    .option('--hub <agent=endpoint>', 'a member that is a hub; repeatable', memberValue(true));
  addWaitOptions(add, 'all members have done what they were asked').action(
    async (name: string, options: CreateOptions, command: Command) => {
      const { hub = [], member = [], pool, subnetPool = '', topology } = options;
      const members = [...hub, ...member];
      const spec = create(MeshSpecSchema, {
        ...{ name, pool, subnetPool, topology, members },
        interface: options.interface ?? '',
        listenPort: options.port,
      });
      await withFleet(io, command, async (fleet) => {
        if ((await existing(fleet, name)) !== undefined)
          throw new LonglineError('already_exists', `mesh ${name} is there; use put to change it`);
      });
      await putMesh(io, command, spec, options, false);
    },
  );
}

function registerReading(mesh: Command, io: CliIo): void {
  mesh
    .command('ls')
    .description('List meshes.')
    .action(async (_options: object, command: Command) => {
      const meshes = await withFleet(io, command, (fleet) =>
        readPages(0, async (pageToken, pageSize) => {
          const page = await fleet.networks.listMeshes({ pageToken, pageSize });
          return { items: page.meshes, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(meshes.map(meshView)));
      await io.list(meshes, meshColumns(Date.now()), 'no meshes; `longline network mesh create` makes one');
    });
  mesh
    .command('get <name>')
    .description('Show a mesh with its members.')
    .action(async (name: string, _options: object, command: Command) => {
      const { mesh: found } = await withFleet(io, command, (fleet) => fleet.networks.getMesh({ name }));
      await io.result(meshView(found!), () => describeMesh(io, found!));
    });
}

function describeMesh(io: CliIo, { members, removing, spec, warnings }: Mesh): string {
  const { interface: onInterface, mtu, name, pool, subnetPool, topology } = spec!;
  const width = io.stdout.isTty ? io.stdout.columns : undefined;
  const head = [
    `mesh ${name}, ${topologyName(topology)}${removing ? ', being removed' : ''}`,
    `  pool ${pool}${subnetPool === '' ? '' : `, subnets ${subnetPool}`}, interface ${onInterface}, MTU ${mtu}`,
    ...warnings.map((warning) => `  warning: ${warning}`),
  ].map((line) => plainText(line));
  const table = renderTable(members, memberColumns(Date.now()), { width, heading: (text) => io.paint('bold', text) });
  return [...head, '', table.trimEnd()].join('\n');
}

interface JoinOptions extends WaitOptions {
  readonly agent: string;
  readonly endpoint?: string;
  readonly address?: string;
  readonly hub?: boolean;
  readonly route?: readonly string[];
  readonly nat?: boolean;
}

function registerMembers(mesh: Command, io: CliIo): void {
  const join = mesh
    .command('join <mesh>')
    .description('Take an agent in, or change how it is a member.')
    .requiredOption('--agent <id>', 'which agent')
    .option('--endpoint <host[:port]>', 'where others reach it; left out for one that dials them')
    .option('--address <address>', 'its address in the pool; a free one if left out')
    .option('--hub', 'it is a hub')
    .option('--route <prefix>', 'prefix that it routes; repeatable', repeated)
    .option('--nat', 'packets of its container subnet get its own address');
  addWaitOptions(join, 'all members have done what they were asked').action(
    async (name: string, options: JoinOptions, command: Command) => {
      const { address = '', agent: agentId, endpoint = '', hub = false, nat = false, route = [] } = options;
      const member = create(MeshMemberSchema, { agentId, endpoint, address, hub, nat, routes: [...route] });
      await withFleet(io, command, async (fleet) => {
        const { mesh: joined } = await fleet.networks.joinMesh({ mesh: name, member });
        await conclude(io, fleet, joined!, options, `has ${agentId}`);
      });
    },
  );
  const leave = mesh
    .command('leave <mesh>')
    .description('Let an agent go. It may have its address again for a week.')
    .requiredOption('--agent <id>', 'which agent');
  addWaitOptions(leave, 'it is gone').action(
    async (name: string, options: WaitOptions & { agent: string }, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        const { mesh: left } = await fleet.networks.leaveMesh({ mesh: name, agentId: options.agent });
        await conclude(io, fleet, left!, options, `lets ${options.agent} go`);
      });
    },
  );
}

function registerRemove(mesh: Command, io: CliIo): void {
  const remove = mesh.command('rm <name>').description('Take a mesh away: all members leave.');
  addWaitOptions(remove, 'all have left').action(async (name: string, options: WaitOptions, command: Command) => {
    await withFleet(io, command, async (fleet) => {
      await fleet.networks.deleteMesh({ name });
      if (options.wait) await gone(fleet, name, options.limit);
    });
    const isGone = options.wait === true;
    await io.result({ name, gone: isGone }, () => plainText(`${name} ${isGone ? 'removed' : 'being removed'}`));
  });
}

async function gone(fleet: Fleet, name: string, limitMs: number): Promise<void> {
  let left = 0;
  await waitFor(
    fleet,
    limitMs,
    async () => {
      const found = await existing(fleet, name);
      left = found?.members.length ?? 0;
      return found === undefined ? true : undefined;
    },
    () => `${left} members have yet to leave mesh ${name}`,
  );
}
