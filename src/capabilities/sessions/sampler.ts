// Measures all running sessions in one pass every so often: figures for the controller, and signs of life for the idle
// ladder. A pass that fails is made up for by the next.
import { describeError } from '../../core/errors.ts';
import type { Figures } from './figures.ts';
import type { SessionReports } from './ports.ts';
import type { SessionServices } from './services.ts';
import type { Session } from './session.ts';
import { encodeFigures } from './wire.ts';

/** Samples until the signal aborts. */
export async function sampleSessions(
  services: SessionServices,
  sessions: ReadonlyMap<string, Session>,
  reports: SessionReports,
  signal: AbortSignal,
): Promise<void> {
  const { clock, config, log } = services;
  while (!signal.aborted) {
    await clock.sleep(config.sampleEveryMs, signal).catch(() => undefined);
    if (signal.aborted) return;
    try {
      await sampleOnce(services, sessions, reports, signal);
    } catch (error) {
      if (!signal.aborted) log.debug('resources could not be measured', { detail: describeError(error) });
    }
  }
}

async function sampleOnce(
  { engine, clock }: SessionServices,
  sessions: ReadonlyMap<string, Session>,
  reports: SessionReports,
  signal: AbortSignal,
): Promise<void> {
  const running = [...sessions.values()].filter(({ state, live }) => {
    return live !== undefined && (state.kind === 'running' || state.kind === 'unhealthy');
  });
  if (running.length === 0) return;
  const readings = await engine.readResources(
    running.map(({ live }) => ({ id: live!.id, pid: live!.pid })),
    signal,
  );
  const told: { sessionId: string; figures: Uint8Array }[] = [];
  for (const session of running) {
    const reading = readings.get(session.live?.id ?? '');
    if (reading === undefined) continue;
    if (session.traffic.measured(reading, session.spec.idle)) session.active(clock.now());
    told.push({ sessionId: session.sessionId, figures: encodeFigures(figuresOf(session)!) });
  }
  if (told.length > 0) reports.measured(told);
}

function figuresOf({ sessionId, traffic, spec, record }: Session): Figures | undefined {
  const latest = traffic.latest();
  if (latest === undefined) return undefined;
  return {
    sessionId,
    ...latest,
    cpuLimit: spec.cpus,
    memoryLimitBytes: spec.memoryBytes,
    tunnelInBytes: traffic.inBytes,
    tunnelOutBytes: traffic.outBytes,
    openTunnels: traffic.open,
    starts: record.starts,
  };
}
