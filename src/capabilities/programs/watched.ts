// What is watched of a program, and by which thresholds. Pure.
import { readProgramSpec } from '../../core/programs/program-spec.ts';
import type { ProgramsConfig, Thresholds } from './config.ts';
import { isRunning } from './lifecycle.ts';
import type { ProgramOrder } from './order.ts';
import type { ProgramRecord } from './record.ts';
import type { RevisionRecord } from './revision-record.ts';
import { resolveThresholds } from './thresholds.ts';
import { decodeSpec } from './wire.ts';

/** A revision that runs, and how it is judged. */
export interface WatchedRevision {
  readonly revision: RevisionRecord;
  readonly thresholds: Thresholds;
  /** On probation. */
  readonly closely: boolean;
}

/** Undefined while nothing runs. A revision is judged by the spec that it is here by, also while another one is asked for. */
export function watchedOf(
  { current, life }: ProgramRecord,
  order: ProgramOrder | undefined,
  config: ProgramsConfig,
): WatchedRevision | undefined {
  if (current === undefined || !isRunning(life)) return undefined;
  const isAsWanted = current.whole === order?.whole;
  const spec = isAsWanted ? order!.spec : readProgramSpec(decodeSpec(Buffer.from(current.spec, 'base64')));
  const thresholds = resolveThresholds(spec.thresholds, current.thresholds, config.thresholds);
  return { revision: current, thresholds, closely: life.kind === 'probation' };
}
