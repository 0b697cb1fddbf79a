// Log lines over OTLP, beside standard error, where they go as before. Started from OpenTelemetry's environment variables; where these
// ask for no logs nothing is loaded. It never fails its process, and nothing waits for it: a collector that can't be reached costs
// lines of the copy, which are counted. What it says itself is not copied, else each loss would be followed by the next.
import type { Clock } from '../../core/clock.ts';
import type { CopiedLogger } from '../logger.ts';
import { answerLimitMs, FLUSH_MS, within } from '../otlp/end-limit.ts';
import type { Environment } from '../otlp/environment.ts';
import { type ExportCounts, ExportTally } from '../otlp/export-tally.ts';
import { logExportSettings } from './settings.ts';

const LINES = { what: 'log lines', lost: 'log lines did not get to the collector' };

/** What an export is started with. */
export interface LogExportOptions {
  readonly environment: Environment;
  /** `service.name` unless the environment names another. */
  readonly service: string;
  readonly version: string;
  /** Further attributes of the resource, which those of the environment overrule. */
  readonly resource?: Readonly<Record<string, string>>;
  /** Longest wait for the collector at the end. */
  readonly flushMs?: number;
  readonly clock: Clock;
  /** Whose lines are copied, from the start of the export to its end. */
  readonly log: CopiedLogger;
}

/** An export. Dispose sends what waits, within a limit; may be called twice. */
export interface LogExport extends AsyncDisposable {
  /** False if nobody asked for it: then all counts stay 0. */
  readonly on: boolean;
  counts(): ExportCounts;
}

/** Starts what the environment asks for. Does not wait for the collector. */
export async function startLogExport(options: LogExportOptions): Promise<LogExport> {
  const { clock, environment, flushMs = FLUSH_MS, log, resource, service, version } = options;
  const tally = new ExportTally(clock, log.uncopied, LINES);
  const counts = () => tally.counts;
  const settings = logExportSettings(environment, (complaint) => {
    log.warn('logs: a variable was not taken', { complaint });
  });
  if (settings === undefined) return { on: false, counts, [Symbol.asyncDispose]: async () => undefined };
  const { startLogSdk } = await import('./log-sdk.ts');
  const sdk = await startLogSdk({
    settings,
    resource: { 'service.name': service, 'service.version': version, 'process.pid': process.pid, ...resource },
    version,
    timeoutMs: settings.hasTimeout ? undefined : answerLimitMs(flushMs),
    tally,
  });
  log.copyTo(sdk.sink);
  let stopping: Promise<void> | undefined;
  const stop = async () => {
    log.copyTo(undefined);
    await within(sdk.shutdown(), flushMs, clock);
    tally.givenUp();
  };
  return {
    on: true,
    counts,
    [Symbol.asyncDispose]: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}
