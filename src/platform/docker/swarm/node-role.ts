// Why a node can't be asked about its swarm: engines say the same of most causes, but tell their state elsewhere.
import type { EngineClient } from '../engine-client.ts';

interface RawInfo {
  readonly Swarm?: {
    readonly LocalNodeState?: string;
    readonly ControlAvailable?: boolean;
    readonly NodeID?: string;
    readonly Error?: string;
  };
}

/** What this node is and what would be right; undefined if it is a manager and something else is wrong. */
export async function whyNoManager(client: EngineClient, signal: AbortSignal): Promise<string | undefined> {
  const ask = {
    method: 'GET',
    path: '/info',
    what: 'ask for the state of the swarm',
    limitMs: client.limitMs,
  } as const;
  const {
    LocalNodeState: state,
    ControlAvailable: manages,
    NodeID: id,
    Error: error,
  } = (await client.json<RawInfo>(ask, signal))?.Swarm ?? {};
  if (manages === true) return undefined;
  const engine = `ha.backend = swarm needs a manager of a swarm; the engine at ${client.where}`;
  switch (state) {
    case 'active':
      return `${engine} is a worker (node ${id}): "docker node promote ${id}" on a manager makes it one`;
    case 'locked':
      return `${engine} is locked: "docker swarm unlock" lets it go on`;
    case 'inactive':
    case undefined:
      return `${engine} is in no swarm: "docker swarm init" makes one, "docker swarm join" enters one`;
    default: {
      const told = error === undefined || error === '' ? '' : `: ${error.replace(/\s+/g, ' ').trim().slice(0, 500)}`;
      return `${engine} is ${state}${told}`;
    }
  }
}
