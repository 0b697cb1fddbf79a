// The checks of the agent on this host, as people and `longline doctor` read them.
import {
  type GetHealthResponse,
  type HealthCheck,
  HealthState,
  LocalService,
} from '#gen/longline/local/v1/local_pb.js';
import { ageOf } from './age.ts';
import type { CheckResult, CheckStatus } from './doctor/check.ts';
import { type CliIo, type Color, EXIT } from './io.ts';
import type { LocalClient } from './local-client.ts';
import { plainText } from './table.ts';
import { timeView } from './views.ts';

const NAMES: Readonly<Record<HealthState, string>> = {
  [HealthState.UNSPECIFIED]: 'unknown',
  [HealthState.OK]: 'ok',
  [HealthState.DEGRADED]: 'degraded',
  [HealthState.FAILED]: 'failed',
};
const COLORS: Readonly<Record<HealthState, Color>> = {
  [HealthState.UNSPECIFIED]: 'yellow',
  [HealthState.OK]: 'green',
  [HealthState.DEGRADED]: 'yellow',
  [HealthState.FAILED]: 'red',
};
const STATUS: Readonly<Record<HealthState, CheckStatus>> = {
  [HealthState.UNSPECIFIED]: 'warn',
  [HealthState.OK]: 'ok',
  [HealthState.DEGRADED]: 'warn',
  [HealthState.FAILED]: 'fail',
};

/** Prints every check; the command fails if one has failed. */
export async function showHealth(io: CliIo, client: LocalClient): Promise<void> {
  const health = await client.call(LocalService.method.getHealth, {});
  await io.result(healthView(health), () => describeHealth(io, health));
  if (health.state === HealthState.FAILED) io.exitCode = EXIT.failed;
}

/** Every check as one of `longline doctor`. */
export function healthResults({ checks }: GetHealthResponse): readonly CheckResult[] {
  return checks.map(({ name, state, reason, mend }) => {
    return { name: `agent: ${name.replaceAll('_', ' ')}`, status: STATUS[state], detail: reason, mend };
  });
}

function healthView({ state, ready, notReadyReason, checks }: GetHealthResponse): Record<string, unknown> {
  return {
    state: NAMES[state],
    ready,
    not_ready_reason: notReadyReason || null,
    checks: checks.map(({ name, state: one, reason, mend, sinceTime }) => {
      return { name, state: NAMES[one], reason, mend, since: timeView(sinceTime) };
    }),
  };
}

function describeHealth(io: CliIo, { state, ready, notReadyReason, checks }: GetHealthResponse): string {
  const nowMs = Date.now();
  const readiness = ready ? 'ready for work' : plainText(`not ready: ${notReadyReason}`);
  return [
    `${io.paint(COLORS[state], NAMES[state])}, ${readiness}`,
    ...checks.map((one) => lineOf(io, one, nowMs)),
  ].join('\n');
}

function lineOf(io: CliIo, { name, state, reason, mend, sinceTime }: HealthCheck, nowMs: number): string {
  const since = state === HealthState.OK ? '' : ` (since ${ageOf(sinceTime, nowMs)})`;
  const line = `${io.paint(COLORS[state], NAMES[state].padEnd(8))}  ${plainText(`${name.padEnd(12)} ${reason}`)}${since}`;
  return mend === '' ? line : `${line}\n          ${plainText(mend)}`;
}
