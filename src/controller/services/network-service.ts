// NetworkService for Connect: networks of agents, meshes of them, rotation of their keys. It checks, stores and reads; the mesh
// driver brings about what is stored.
import type { ServiceImpl } from '@connectrpc/connect';
import type { NetworkService } from '#gen/longline/fleet/v1/network_service_pb.js';
import { NetworkChanges } from '../networks/network-changes.ts';
import { meshMethods } from './mesh-methods.ts';
import type { NetworkFiguresCache } from './network-figures.ts';
import { networkMethods } from './network-methods.ts';
import { rotationMethods } from './rotation-methods.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

/** NetworkService over store, bus and recent figures. */
export function createNetworkService(
  needs: ServiceDependencies,
  figures: NetworkFiguresCache,
): ServiceImpl<typeof NetworkService> {
  const parts = { ...needs, figures, changes: new NetworkChanges(needs) };
  return { ...networkMethods(parts), ...meshMethods(needs), ...rotationMethods(needs) };
}
