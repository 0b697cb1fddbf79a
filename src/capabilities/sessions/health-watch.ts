// Probes a running session again and again, and tells when the verdict changes.
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import { type HealthCheck, type HealthTally, type Probe, tally, UNTRIED } from './health-check.ts';
import type { ProbeTarget, SessionEngine } from './ports.ts';
import type { SessionServices } from './services.ts';

const MAX_OUTPUT_BYTES = 1024;

/** Tries once. Throws a LonglineError that says why it failed. */
export async function probeOnce(
  engine: SessionEngine,
  containerId: string,
  target: ProbeTarget,
  { probe, timeoutMs }: HealthCheck,
  signal: AbortSignal,
): Promise<void> {
  switch (probe.kind) {
    case 'command':
      return await runProbe(engine, containerId, probe, timeoutMs, signal);
    case 'tcp':
      return await engine.probeTcp(target, probe.port, timeoutMs, signal);
    case 'http': {
      return await askHttp(engine, containerId, target, probe, timeoutMs, signal);
    }
  }
}

async function askHttp(
  engine: SessionEngine,
  containerId: string,
  target: ProbeTarget,
  { port, path }: Extract<Probe, { kind: 'http' }>,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  let status: number;
  try {
    status = await engine.probeHttp(target, port, path, timeoutMs, signal);
  } catch (error) {
    // What listens on the container's loopback only is asked from inside, if the image has wget.
    const argv = ['wget', '-q', '-O', '/dev/null', `http://127.0.0.1:${port}${path}`];
    const asked = runProbe(engine, containerId, { kind: 'command', argv }, timeoutMs, signal);
    if (
      await asked.then(
        () => true,
        () => false,
      )
    )
      return;
    throw error;
  }
  if (status >= 200 && status < 400) return;
  throw new LonglineError('wrong_state', `${path} on port ${port} answered with status ${status}`);
}

async function runProbe(
  engine: SessionEngine,
  containerId: string,
  { argv }: Extract<Probe, { kind: 'command' }>,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const command = { argv, env: {}, user: '', workingDir: '', terminal: false, size: undefined };
  const terminal = await engine.execute(containerId, command, signal);
  const late = Promise.withResolvers<never>();
  late.promise.catch(() => undefined);
  const timer = setTimeout(() => {
    late.reject(new LonglineError('late', `${JSON.stringify(argv[0])} did not end within ${timeoutMs} ms`));
  }, timeoutMs);
  let said = '';
  const read = async () => {
    for await (const { data } of terminal.output) {
      if (said.length < MAX_OUTPUT_BYTES) said += Buffer.from(data).toString();
    }
    return await terminal.exitCode();
  };
  try {
    const code = await Promise.race([read(), late.promise]);
    if (code === 0) return;
    const output = said.trim().slice(0, MAX_OUTPUT_BYTES);
    throw new LonglineError('wrong_state', `${JSON.stringify(argv[0])} ended with exit code ${code}: ${output}`);
  } catch (error) {
    await terminal.signal('SIGKILL').catch(() => undefined);
    throw error;
  } finally {
    clearTimeout(timer);
    terminal.destroy();
  }
}

/** What a watch looks at and tells. */
export interface WatchedHealth {
  readonly check: HealthCheck;
  readonly startedAtMs: number;
  /** False while it must not be probed, as when it is paused. */
  readonly active: () => boolean;
  readonly probe: (signal: AbortSignal) => Promise<void>;
  readonly changed: (now: HealthTally, output: string) => void;
}

/** Watches until the signal aborts. @param first what is known already. */
export async function watchHealth(
  { clock, log }: Pick<SessionServices, 'clock' | 'log'>,
  watched: WatchedHealth,
  first: HealthTally | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { check } = watched;
  let now = first ?? UNTRIED;
  while (!signal.aborted) {
    await clock.sleep(check.intervalMs, signal).catch(() => undefined);
    if (signal.aborted || !watched.active()) continue;
    let failure: LonglineError | undefined;
    try {
      await watched.probe(signal);
    } catch (error) {
      if (signal.aborted || !watched.active()) continue;
      failure = toLonglineError(error);
      // An engine that is away says nothing about the session.
      if (failure.reason === 'unavailable' && check.probe.kind === 'command') continue;
      log.debug('a health check failed', { detail: describeError(error) });
    }
    const before = now;
    now = tally(before, failure === undefined, clock.now() - watched.startedAtMs, check);
    if (now.failures !== before.failures || now.verdict !== before.verdict) {
      watched.changed(now, (failure?.message ?? '').slice(0, MAX_OUTPUT_BYTES));
    }
  }
}
