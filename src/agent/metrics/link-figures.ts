// Figures of the link, and of what is on disk for it.
import { stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { family, figure, type MetricCollector, type MetricFamily, oneOf } from '../../core/metrics/metric.ts';
import type { LinkStatus } from '../../link/link-state.ts';
import { DISK_METRICS, LINK_METRICS } from '../../telemetry/metrics/agent-names.ts';
import { AUDIT_FILE } from '../audit/audit-log.ts';

const LINK_STATES = ['connecting', 'handshaking', 'open', 'draining', 'backing_off', 'closed'] as const;

/** What the link is asked for. */
export interface LinkFiguresParts {
  /** Undefined before there is a link. */
  readonly status: () => LinkStatus | undefined;
  /** Milliseconds since the epoch. */
  readonly certificateExpiresAtMs: () => number | undefined;
}

/** Figures of the link. */
export function linkCollector({ status, certificateExpiresAtMs }: LinkFiguresParts): MetricCollector {
  return {
    name: 'link',
    collect: () => {
      const expiry = figure(LINK_METRICS.certificateExpiry, seconds(certificateExpiresAtMs()));
      const link = status();
      return link === undefined ? [expiry] : [expiry, ...linkFigures(link), ...spoolFigures(link)];
    },
  };
}

function linkFigures(link: LinkStatus): readonly MetricFamily[] {
  const { state, queued } = link;
  return [
    oneOf(LINK_METRICS.state, LINK_STATES, state.kind),
    figure(LINK_METRICS.openSince, state.kind === 'open' ? seconds(state.sinceMs) : undefined),
    figure(LINK_METRICS.connects, link.connects),
    figure(LINK_METRICS.failures, link.failures),
    figure(LINK_METRICS.resumedTls, link.resumedTlsSessions),
    figure(LINK_METRICS.roundTrip, seconds(link.roundTripMs)),
    figure(LINK_METRICS.clockSkew, seconds(link.clockSkewMs)),
    family(LINK_METRICS.queued, [
      [queued.commands, 'commands'],
      [queued.reports, 'reports'],
      [queued.events, 'events'],
    ]),
    figure(LINK_METRICS.unfinished, link.unfinishedCommands),
    figure(LINK_METRICS.pendingReplies, link.pendingReplies),
    figure(LINK_METRICS.acknowledged, link.acknowledgedReplies),
    figure(LINK_METRICS.droppedEvents, link.droppedEvents),
    figure(LINK_METRICS.droppedSamples, link.droppedSamples),
    figure(LINK_METRICS.unknownMessages, link.unknownMessages),
  ];
}

const GAP_REASONS = ['output_limit', 'spool_full'];

function spoolFigures(link: LinkStatus): readonly MetricFamily[] {
  const reasons = new Set([...GAP_REASONS, ...link.lostBytes.keys()]);
  return [
    figure(DISK_METRICS.spoolBytes, link.spoolBytes),
    figure(DISK_METRICS.spoolLogs, link.spoolLogs),
    family(
      DISK_METRICS.spoolGaps,
      [...reasons].map((reason) => [link.lostBytes.get(reason) ?? 0, reason]),
    ),
    figure(DISK_METRICS.spoolAcknowledged, link.storedBytes),
    figure(DISK_METRICS.journalBytes, link.journalBytes),
    figure(DISK_METRICS.journalBacklog, Number(link.journalBacklog)),
  ];
}

/** Figures of the disk that the data folder is on, and of the audit log. */
export function diskCollector(folder: string, auditSequence: () => number): MetricCollector {
  return {
    name: 'disk',
    collect: async () => {
      const { bavail, blocks, bsize } = await statfs(folder);
      return [
        figure(DISK_METRICS.freeBytes, bavail * bsize),
        figure(DISK_METRICS.sizeBytes, blocks * bsize),
        figure(DISK_METRICS.auditRecords, auditSequence()),
        figure(DISK_METRICS.auditBytes, await auditBytes(folder)),
      ];
    },
  };
}

/** The database and what it has not taken in yet. */
async function auditBytes(folder: string): Promise<number> {
  const sizes = ['', '-wal'].map(async (end) => {
    try {
      return (await stat(join(folder, `${AUDIT_FILE}${end}`))).size;
    } catch {
      // There is none when all of it has been taken in.
      return 0;
    }
  });
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}
