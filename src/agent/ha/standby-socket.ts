// The local service of a replica that stands by: it tells its status and does nothing else. Only on a socket that was named:
// the one in the data folder is the leader's, where replicas share the folder.
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { AgentConfig } from '../config.ts';
import { leadershipOf } from '../local/agent-view.ts';
import { LocalServer, type LocalView } from '../local/local-server.ts';
import type { LeadershipView } from './leadership.ts';

/** What a standby tells. */
export interface StandbyFacts {
  readonly config: Pick<AgentConfig, 'agentId' | 'controllerUrl' | 'localSocket'>;
  readonly startedAtMs: number;
  readonly view: () => LeadershipView;
  readonly log: Logger;
}

/** Serves until disposed. A socket that can't be had is logged: a standby is no worse without. */
export async function serveStandby({ config, startedAtMs, view, log }: StandbyFacts): Promise<AsyncDisposable> {
  const { localSocket, agentId, controllerUrl = '' } = config;
  const none = { [Symbol.asyncDispose]: async () => undefined };
  if (localSocket === undefined) return none;
  const refuse = async (): Promise<never> => {
    const leader = view().leader || 'one of the others';
    throw new LonglineError('wrong_state', `this replica stands by; ask the leader, ${leader}`);
  };
  const standby: LocalView = {
    status: async () => ({
      ...{ agentId, controller: controllerUrl, linkState: 'closed', linkReason: 'this replica stands by' },
      startTime: timestampFromMs(startedAtMs),
      ...leadershipOf(view),
    }),
    health: refuse,
    setLogLevel: refuse,
    commands: refuse,
    explain: refuse,
    explainSession: refuse,
    reload: refuse,
  };
  const server = new LocalServer(localSocket, { view: standby }, log);
  try {
    await server.open();
    server.setServing(true);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    log.warn('a standby serves no socket; give each replica a local_socket of its own', { err: describeError(error) });
    return none;
  }
}
