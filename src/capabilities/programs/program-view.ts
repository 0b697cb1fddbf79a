// Joins what is kept, wanted and found of a program to what is told of it. Pure.
import { LonglineError } from '../../core/errors.ts';
import { attachText } from '../../core/programs/attach-point.ts';
import type { ProgramsConfig } from './config.ts';
import type { ProgramOrder } from './order.ts';
import type { FoundProgram } from './ports.ts';
import type { Quarantined } from './quarantine.ts';
import type { ProgramRecord } from './record.ts';
import { type RevisionRecord, remembered } from './revision-record.ts';
import type { LinkView, Problem, ProgramView, RevisionView } from './status.ts';

/** What a view is made from. */
export interface ViewParts {
  readonly record: ProgramRecord;
  readonly order: ProgramOrder | undefined;
  readonly found: FoundProgram | undefined;
  /** What holds back what is wanted. */
  readonly blocked: Quarantined | undefined;
  readonly problems: readonly Problem[];
  readonly expiresAtMs: number | undefined;
}

/** How long a program may be loaded, milliseconds; 0 for ever. */
export function ttlOf(record: ProgramRecord, order: ProgramOrder | undefined, config: ProgramsConfig): number {
  return order?.spec.ttlMs ?? (record.current ?? record.next)?.ttlMs ?? config.defaultTtlMs;
}

/** A program as it is told of. */
export function programView({ record, order, found, blocked, problems, expiresAtMs }: ViewParts): ProgramView {
  const { name, life, lifeAtMs, current, previous, lastRollback } = record;
  return {
    ...{ name, source: order?.source ?? record.source, life, lifeAtMs },
    current: current === undefined ? undefined : revisionView(current, found),
    previous: previous === undefined ? undefined : revisionView(previous, found),
    wantedArtifact: order?.spec.artifact ?? '',
    wantedHash: order?.whole ?? '',
    quarantined: blocked !== undefined,
    problems: [...overProblems(record), ...blockedProblems(blocked), ...problems],
    links: current === undefined ? [] : linkViews(current, found),
    expiresAtMs,
    lastRollback,
  };
}

function revisionView(revision: RevisionRecord, found: FoundProgram | undefined): RevisionView {
  const functions = found?.revisions.find(({ place }) => place.revision === revision.number)?.functions ?? [];
  return { ...remembered(revision), programIds: Object.fromEntries(functions.map(({ name, id }) => [name, id])) };
}

function linkViews(current: RevisionRecord, found: FoundProgram | undefined): readonly LinkView[] {
  return current.places.flatMap((place) => {
    const link = found?.links.find(({ slot, gone }) => slot === place.slot && !gone);
    if (link === undefined) return [];
    const { function: name, point, atomic } = place;
    return [{ function: name, attach: attachText(point), linkId: link.linkId, atomic }];
  });
}

function overProblems({ over }: ProgramRecord): readonly Problem[] {
  if (over?.why !== 'replaced') return [];
  const message = `program ${over.by} took its place, since no more programs may be loaded at once; ask for it anew with another renewal`;
  return [{ field: 'max_programs', error: new LonglineError('limit', message), verifierLog: '', retryAtMs: undefined }];
}

function blockedProblems(blocked: Quarantined | undefined): readonly Problem[] {
  if (blocked === undefined) return [];
  const { artifact, reason } = blocked;
  const message = `artifact ${artifact} is quarantined on this host: ${reason}; release it, renew the spec, or take another artifact`;
  return [
    { field: 'artifact', error: new LonglineError('wrong_state', message), verifierLog: '', retryAtMs: undefined },
  ];
}
