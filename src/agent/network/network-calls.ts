// The network capability as the local service offers it.
import { create } from '@bufbuild/protobuf';
import { NetworkSpecSchema } from '#gen/longline/v1/network_pb.js';
import type { NetworkCapability } from '../../capabilities/network/capability.ts';
import { problemMessage, statusMessage } from '../../capabilities/network/wire.ts';
import type { Clock } from '../../core/clock.ts';
import type { NetworkCalls } from '../local/local-server.ts';

/** Calls on a capability that was opened. */
export function networkCalls(networks: NetworkCapability, clock: Clock): NetworkCalls {
  return {
    apply: async ({ spec = create(NetworkSpecSchema), validateOnly }) => {
      const { view, warnings } = await networks.applyLocal(spec, validateOnly);
      return {
        warnings: warnings.map(problemMessage),
        ...(view === undefined ? {} : { network: statusMessage(view, clock.now(), true) }),
      };
    },
    remove: async ({ name }) => await networks.removeLocal(name),
    list: async () => {
      const views = await networks.look();
      return { networks: views.map((view) => statusMessage(view, clock.now(), true)) };
    },
  };
}
