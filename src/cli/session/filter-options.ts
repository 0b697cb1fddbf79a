// The options that say which sessions are meant.
import { create } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { type SessionFilter, SessionFilterSchema } from '#gen/longline/fleet/v1/session_service_pb.js';
import { SessionState } from '#gen/longline/v1/session_pb.js';
import { pairValue, wordValue } from '../option-values.ts';
import { sessionStateName } from './views.ts';

/** What the options say. */
export interface FilterOptions {
  readonly agent?: string;
  readonly state?: SessionState;
  readonly label?: Record<string, string>;
  readonly owner?: string;
  readonly template?: string;
  readonly all?: boolean;
}

const STATES: Readonly<Record<string, SessionState>> = Object.fromEntries(
  Object.values(SessionState)
    .filter((state): state is SessionState => typeof state === 'number' && state !== SessionState.UNSPECIFIED)
    .map((state) => [sessionStateName(state), state]),
);

/** Adds the options. */
export function addFilterOptions(command: Command): Command {
  return command
    .option('--agent <id>', 'only on this agent')
    .option('--state <state>', 'only in this state', wordValue(STATES))
    .option('--label <key=value>', 'only with this label; repeatable', pairValue)
    .option('--owner <name>', 'only of this owner')
    .option('--template <name>', 'only made from this template')
    .option('-a, --all', 'also those that have ended or failed');
}

/** The filter that they make. */
export function filterOf(options: FilterOptions): SessionFilter {
  return create(SessionFilterSchema, {
    agentId: options.agent ?? '',
    states: options.state === undefined ? [] : [options.state],
    matchLabels: options.label ?? {},
    owner: options.owner ?? '',
    template: options.template ?? '',
    live: options.all !== true && options.state === undefined,
  });
}
