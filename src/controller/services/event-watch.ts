// Events as they are stored. The store is asked again after each signal, so that none is missed and none is told twice;
// what was forgotten before a slow caller came to it is passed over, and the numbers show that.
import type { AgentEvent } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { eventsTopic } from '../bus/topics.ts';
import type { AgentEventRecord } from '../store/agent-event.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { eventView } from './views.ts';
import { nextWithin } from './waiting.ts';

const BATCH = 500;

/** The newest `backlog` events that are kept, oldest first, then each new one until the signal aborts. */
export async function* watchEvents(
  { store, bus, clock, options }: ServiceDependencies,
  { agentId, backlog }: { readonly agentId: string; readonly backlog: number },
  signal: AbortSignal,
): AsyncGenerator<AgentEvent, void, undefined> {
  // One signal that waits is enough: it makes the store be asked for all there is.
  using signals = await bus.subscribe(eventsTopic, 1);
  const known: AgentEventRecord[] = [];
  let number = await store.agentEvents.last();
  if (backlog > 0) {
    const { items } = await store.agentEvents.list(agentId, { pageSize: backlog, pageToken: '' });
    known.push(...items.toReversed());
    number = Math.max(number, known.at(-1)?.number ?? 0);
  }
  for (const event of known) yield eventView(event);
  while (!signal.aborted) {
    const events = await store.agentEvents.after(agentId, number, BATCH);
    for (const event of events) {
      number = event.number;
      yield eventView(event);
    }
    if (events.length < BATCH) await nextWithin(signals, clock, options.recheckMs, signal);
  }
}
