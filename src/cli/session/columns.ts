// Sessions and templates as people see them: tables and descriptions.
import type { SessionUsage } from '#gen/longline/fleet/v1/session_service_pb.js';
import {
  type Session,
  SessionState,
  type SessionTelemetry,
  type SessionTemplate,
} from '#gen/longline/v1/session_pb.js';
import { formatByteSize } from '../../core/byte-size.ts';
import { ageOf } from '../age.ts';
import { plainText, type TableColumn } from '../table.ts';
import { causeName, sessionStateName, stepName } from './views.ts';

/** State in words: with the step on the way, and a question mark while its agent is away. */
export function stateText({ status, unknownSince }: Session): string {
  const state = sessionStateName(status?.state ?? SessionState.UNSPECIFIED);
  const step = stepName(status?.step ?? 0);
  return `${state}${step === '' ? '' : ` (${step})`}${unknownSince === undefined ? '' : '?'}`;
}

/** One row for each session. */
export function sessionColumns(nowMs: number): readonly TableColumn<Session>[] {
  return [
    { heading: 'session', value: (session) => session.id },
    { heading: 'state', value: stateText },
    { heading: 'agent', value: (session) => session.agentId },
    {
      heading: 'template',
      value: ({ template, templateVersion }) => (template === '' ? '-' : `${template}:${templateVersion}`),
    },
    { heading: 'owner', value: ({ spec }) => spec?.owner || '-' },
    { heading: 'restarts', align: 'right', value: ({ status }) => String(status?.restarts ?? 0) },
    { heading: 'changed', value: ({ status }) => ageOf(status?.changeTime, nowMs) },
    { heading: 'active', value: ({ status }) => ageOf(status?.activityTime, nowMs) },
    { heading: 'image', value: ({ spec, status }) => spec?.image || status?.image || '-' },
  ];
}

/** One row for each template. */
export function templateColumns(nowMs: number): readonly TableColumn<SessionTemplate>[] {
  return [
    { heading: 'template', value: (template) => template.name },
    { heading: 'version', align: 'right', value: (template) => String(template.version) },
    { heading: 'image', value: ({ spec }) => spec?.image ?? '-' },
    { heading: 'made', value: ({ createTime }) => ageOf(createTime, nowMs) },
    { heading: 'by', value: ({ creator }) => creator },
    { heading: 'description', value: ({ description }) => description },
  ];
}

const roundSize = (bytes: bigint): string => {
  const n = Number(bytes);
  if (n < 1024) return `${n}B`;
  if (n < 1024 ** 2) return `${(n / 1024).toFixed(1)}KiB`;
  return n < 1024 ** 3 ? `${(n / 1024 ** 2).toFixed(1)}MiB` : `${(n / 1024 ** 3).toFixed(2)}GiB`;
};

const pair = (
  sample: SessionTelemetry | undefined,
  one: keyof SessionTelemetry,
  two: keyof SessionTelemetry,
): string => (sample === undefined ? '-' : `${roundSize(sample[one] as bigint)} / ${roundSize(sample[two] as bigint)}`);

/** One row for each session with its latest figures. */
export const usageColumns: readonly TableColumn<SessionUsage>[] = [
  { heading: 'session', value: ({ sessionId }) => sessionId },
  { heading: 'state', value: ({ state }) => sessionStateName(state) },
  { heading: 'agent', value: ({ agentId }) => agentId },
  { heading: 'cpus', align: 'right', value: ({ sample }) => (sample === undefined ? '-' : sample.cpus.toFixed(2)) },
  {
    heading: 'memory',
    align: 'right',
    value: ({ sample }) => {
      if (sample === undefined) return '-';
      const limit = sample.memoryLimitBytes === 0n ? '' : ` / ${roundSize(sample.memoryLimitBytes)}`;
      return `${roundSize(sample.memoryBytes)}${limit}`;
    },
  },
  { heading: 'net in / out', align: 'right', value: ({ sample }) => pair(sample, 'networkRxBytes', 'networkTxBytes') },
  { heading: 'disk r / w', align: 'right', value: ({ sample }) => pair(sample, 'blockReadBytes', 'blockWriteBytes') },
  {
    heading: 'tunnel in / out',
    align: 'right',
    value: ({ sample }) => pair(sample, 'tunnelInBytes', 'tunnelOutBytes'),
  },
  { heading: 'pids', align: 'right', value: ({ sample }) => (sample === undefined ? '-' : String(sample.pids)) },
];

/** All that matters of one session, a line for each. */
export function describeSession(session: Session, nowMs: number): string {
  const { status, spec, operation } = session;
  const rows: [string, string][] = [
    ['session', session.id],
    ['state', stateText(session)],
  ];
  const add = (name: string, value: string | undefined): void => {
    if (value !== undefined && value !== '') rows.push([name, value]);
  };
  const cause = causeName(status?.cause ?? 0).replaceAll('_', ' ');
  add('why', [cause, status?.reason].filter(Boolean).join(': '));
  if (session.unknownSince !== undefined) {
    add('agent away', `since ${ageOf(session.unknownSince, nowMs)}; the state is what it said last`);
  }
  add('error', status?.error?.message);
  if (status?.nextTryTime !== undefined) add('next try', ageOf(status.nextTryTime, nowMs));
  add('agent', session.agentId);
  const ran = status?.image ?? '';
  add('image', spec?.image ? `${spec.image}${ran === '' || ran === spec.image ? '' : ` (${ran})`}` : ran);
  add('template', session.template === '' ? '' : `${session.template}:${session.templateVersion}`);
  add('owner', spec?.owner);
  add('container', status?.containerName || status?.containerId);
  for (const port of status?.ports ?? [])
    add('port', `${port.name} ${port.number}${port.reachable ? '' : ' (not reachable)'}`);
  add('network', status?.network);
  for (const volume of status?.volumes ?? []) add('volume', `${volume.name} at ${volume.target} (${volume.volume})`);
  const { cpus, memoryBytes } = spec?.resources ?? {};
  add(
    'limits',
    [cpus === undefined ? '' : `${cpus} cpus`, memoryBytes === undefined ? '' : formatByteSize(Number(memoryBytes))]
      .filter(Boolean)
      .join(', '),
  );
  add('generation', session.generation > 1n ? String(session.generation) : '');
  add(
    'starts',
    status === undefined || status.starts < 2 ? '' : `${status.starts}, ${status.restarts} restarts in a row`,
  );
  add('created', `${ageOf(session.createTime, nowMs)} by ${session.creator || 'another controller'}`);
  if (status?.activityTime !== undefined) add('active', ageOf(status.activityTime, nowMs));
  if (status?.expireTime !== undefined) add('ends', ageOf(status.expireTime, nowMs));
  if (operation?.error !== undefined && operation.error.message !== status?.error?.message) {
    add('last action', operation.error.message);
  }
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => plainText(`${name.padEnd(width)}  ${value}`)).join('\n');
}
