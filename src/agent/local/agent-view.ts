// What the local service tells of the agent.

import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type GetStatusResponse,
  LeadershipSchema,
  LocalCommandSchema,
  PolicyDecisionSchema,
  RefusedSettingSchema,
} from '#gen/longline/local/v1/local_pb.js';
import { JobSpecSchema } from '#gen/longline/v1/job_pb.js';
import { SessionSpecSchema } from '#gen/longline/v1/session_pb.js';
import type { SessionsConfig } from '../../capabilities/sessions/config.ts';
import type { Link } from '../../link/link.ts';
import type { LinkState } from '../../link/link-state.ts';
import type { HostReport } from '../../link/ports.ts';
import type { LeadershipView } from '../ha/leadership.ts';
import { type ExplainingHost, explainJob } from '../policy/job-explanation.ts';
import { explainSession } from '../policy/session-explanation.ts';
import type { Reloaded } from '../rules.ts';
import type { LocalView } from './local-server.ts';

/** What the view looks at. */
export interface AgentViewParts {
  readonly agentId: string;
  readonly instanceId: string;
  readonly controllerUrl: string;
  readonly startedAtMs: number;
  readonly link: Link;
  readonly report: HostReport;
  readonly certificateExpiresAtMs: () => number | undefined;
  readonly reload: () => Promise<Reloaded>;
  readonly health: LocalView['health'];
  readonly setLogLevel: LocalView['setLogLevel'];
  /** Undefined without leader election. */
  readonly leadership: (() => LeadershipView) | undefined;
  /** The host as explanations see it, now. */
  readonly explaining: () => ExplainingHost & { readonly sessions: SessionsConfig };
}

/** The view of a running agent. */
export function agentView(parts: AgentViewParts): LocalView {
  const { agentId, instanceId, controllerUrl: controller, link, report } = parts;
  return {
    status: async () => {
      const { state } = link.status();
      const expiresAtMs = parts.certificateExpiresAtMs();
      return {
        ...{ agentId, instanceId, controller },
        linkState: state.kind,
        linkReason: reasonOf(state),
        facts: report.facts(),
        usage: await report.usage(),
        startTime: timestampFromMs(parts.startedAtMs),
        ...leadershipOf(parts.leadership),
        ...(expiresAtMs === undefined ? {} : { certificateExpireTime: timestampFromMs(expiresAtMs) }),
      };
    },
    health: parts.health,
    setLogLevel: parts.setLogLevel,
    commands: async () => ({ commands: commandsOf(link) }),
    explain: async ({ spec, keyId, controllerId }) => {
      const signer = keyId === '' ? undefined : keyId;
      const answer = explainJob(parts.explaining(), {
        spec: spec ?? create(JobSpecSchema),
        keyId: signer,
        controllerId,
      });
      return {
        allowed: answer.allowed,
        decisions: answer.decisions.map((decision) => create(PolicyDecisionSchema, decision)),
        ...(answer.effective === undefined ? {} : { effective: answer.effective }),
      };
    },
    explainSession: async ({ spec, keyId, controllerId }) => {
      const answer = explainSession(parts.explaining(), {
        spec: spec ?? create(SessionSpecSchema),
        keyId: keyId === '' ? undefined : keyId,
        controllerId,
      });
      return {
        allowed: answer.allowed,
        decisions: answer.decisions.map((decision) => create(PolicyDecisionSchema, decision)),
        ...(answer.effective === undefined ? {} : { effective: answer.effective }),
      };
    },
    reload: async () => {
      const { files, settings, refused } = await parts.reload();
      const kept = refused.map((one) => create(RefusedSettingSchema, one));
      return { files: [...files], settings: [...settings], refused: kept };
    },
  };
}

/** As status has it; nothing where there is no election. */
export function leadershipOf(view: (() => LeadershipView) | undefined): Pick<GetStatusResponse, 'leadership'> | object {
  return view === undefined ? {} : { leadership: create(LeadershipSchema, view()) };
}

function reasonOf(state: LinkState): string {
  return 'reason' in state ? state.reason : '';
}

function commandsOf(link: Link) {
  return link.commands().map(({ id, capability, state, receivedAtMs }) =>
    create(LocalCommandSchema, {
      id,
      capability,
      state,
      ...(receivedAtMs === undefined ? {} : { receiveTime: timestampFromMs(receivedAtMs) }),
    }),
  );
}
