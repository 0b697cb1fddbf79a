// A process full of light agents. It is told what to do over IPC, and tells what has happened as it happens.
import { readFileSync } from 'node:fs';
import { LightAgent, type LightCounts, type LightIdentity, LightState, type LightTarget } from './light-agent.ts';

/** To a client process: the agents it is to be. */
export interface Attach {
  readonly kind: 'attach';
  /** JSON of LightIdentity[]. */
  readonly identities: string;
  readonly target: LightTarget;
  /** Handshakes at once, so that a first attach is no storm. */
  readonly atOnce: number;
}

/** To a client process: what agents answer to a command. */
export interface Answers {
  readonly kind: 'answers';
  readonly answers: 'receipt' | 'receipt and result';
}

/** From a client process. */
export interface Report extends LightCounts {
  /** Milliseconds since the epoch. */
  readonly atMs: number;
}

const REPORT_MS = 10;
const HEARTBEAT_MS = 15_000;
const HEARTBEAT_TICKS = 300;

const state = new LightState();
const agents: LightAgent[] = [];

async function attach({ identities, target, atOnce }: Attach): Promise<void> {
  const all = JSON.parse(readFileSync(identities, 'utf8')) as readonly (LightIdentity & { readonly number: number })[];
  agents.push(...all.map((identity) => new LightAgent(identity, identity.number, target, state)));
  let next = 0;
  const worker = async () => {
    for (let agent = agents[next++]; agent !== undefined; agent = agents[next++]) await agent.start();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

let told = '';
setInterval(() => {
  const text = JSON.stringify(state.counts);
  if (text === told) return;
  told = text;
  process.send?.({ ...state.counts, atMs: Date.now() });
}, REPORT_MS);

let tick = 0;
setInterval(() => {
  for (let at = tick; at < agents.length; at += HEARTBEAT_TICKS) agents[at]!.heartbeat();
  tick = (tick + 1) % HEARTBEAT_TICKS;
}, HEARTBEAT_MS / HEARTBEAT_TICKS);

process.on('message', (order: Attach | Answers) => {
  if (order.kind === 'attach') void attach(order);
  else state.endsCommands = order.answers === 'receipt and result';
});
process.on('disconnect', () => process.exit(0));
