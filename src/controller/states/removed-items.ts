// What was taken away from an agent is forgotten once the agent says that it is gone, or can't say anything any more.
import type { StateReport } from '#gen/longline/link/v1/link_pb.js';
import type { Bus, Topic } from '../bus/bus.ts';
import type { Store } from '../store/store.ts';
import { readReport } from './standing.ts';

/** Items of one kind. */
export interface RemovableItems {
  /** Number of longline.link.v1.DesiredStateKind. */
  readonly stateKind: number;
  readonly topic: Topic<{ readonly agentId: string; readonly name: string }>;
  readonly repository: {
    ofAgent(
      agentId: string,
    ): Promise<readonly { readonly name: string; readonly generation: bigint; readonly removing: boolean }[]>;
    forget(agentId: string, names: readonly string[], generation: bigint): Promise<readonly string[]>;
  };
  /** True if a report names the item. */
  isTold(report: StateReport, name: string): boolean;
}

/** Forgets what is gone, and tells who follows it. */
export async function forgetRemoved(
  { store, bus }: { readonly store: Pick<Store, 'agents' | 'stateReports'>; readonly bus: Bus },
  agentId: string,
  items: RemovableItems,
): Promise<void> {
  const removing = (await items.repository.ofAgent(agentId)).filter((item) => item.removing);
  if (removing.length === 0) return;
  const stored = await store.stateReports.get(agentId, items.stateKind);
  const report = stored && readReport(stored.report);
  const revoked = (await store.agents.get(agentId))?.revoked ?? true;
  for (const { generation, name } of removing) {
    const said = report !== undefined && report.generation >= generation && !items.isTold(report, name);
    if (!said && !revoked) continue;
    for (const gone of await items.repository.forget(agentId, [name], generation)) {
      bus.publish(items.topic, { agentId, name: gone });
    }
  }
}
