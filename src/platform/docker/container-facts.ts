// From the engine's description of a container to ContainerFacts. Docker and Podman differ in names of states and in
// how they write "never". Pure.
import type { ContainerFacts } from '../../capabilities/jobs/ports.ts';

/** The members of GET /containers/ID/json that are used. */
export interface RawContainer {
  readonly Id: string;
  readonly Name: string;
  readonly Image: string;
  readonly Config: { readonly Image?: string; readonly Labels?: Readonly<Record<string, string>> | null };
  readonly State: {
    readonly Status: string;
    readonly ExitCode: number;
    readonly OOMKilled: boolean;
    readonly StartedAt: string;
    readonly FinishedAt: string;
    readonly Error?: string;
    readonly Pid: number;
  };
  readonly LogPath?: string;
  readonly HostConfig?: { readonly LogConfig?: { readonly Type?: string } };
}

/** States as engines name them. */
export const STATES: Readonly<Record<string, ContainerFacts['state']>> = {
  created: 'created',
  running: 'running',
  paused: 'paused',
  restarting: 'restarting',
  removing: 'removing',
  exited: 'exited',
  dead: 'dead',
  // Podman's own.
  configured: 'created',
  initialized: 'created',
  stopping: 'running',
  stopped: 'exited',
  unknown: 'dead',
};

/** Facts of an inspected container. */
export function containerFacts(raw: RawContainer): ContainerFacts {
  const state = STATES[raw.State.Status] ?? 'dead';
  const ended = state === 'exited' || state === 'dead';
  const startedAtMs = timeMs(raw.State.StartedAt);
  return {
    id: raw.Id,
    name: raw.Name.replace(/^\//, ''),
    labels: raw.Config.Labels ?? {},
    state,
    image: raw.Config.Image ?? raw.Image,
    exitCode: ended ? raw.State.ExitCode : undefined,
    oomKilled: raw.State.OOMKilled,
    startedAtMs,
    finishedAtMs: ended ? notBefore(timeMs(raw.State.FinishedAt), startedAtMs) : undefined,
    error: raw.State.Error ?? '',
  };
}

/** Docker notes the start after the fact: a program that ends at once would have ended before it began. */
function notBefore(finishedAtMs: number | undefined, startedAtMs: number | undefined): number | undefined {
  return finishedAtMs === undefined ? undefined : Math.max(finishedAtMs, startedAtMs ?? finishedAtMs);
}

/** Milliseconds since the epoch; undefined for Go's zero time, which stands for "never". */
function timeMs(text: string): number | undefined {
  const ms = Date.parse(text);
  return Number.isNaN(ms) || ms <= 0 ? undefined : ms;
}
