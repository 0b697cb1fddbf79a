// One container that waits for a command.
import type { Clock } from '../../core/clock.ts';
import { newId } from '../../core/ids.ts';
import type { WarmSettings } from './config.ts';
import type { ContainerReaper } from './container-reaper.ts';
import { warmContainerSpec } from './plan.ts';
import type { Attachment, ContainerEngine, ContainerExit, ContainerSpec } from './ports.ts';
import { INIT_SCRIPT, initToken } from './warm-init.ts';

/** A waiting container, now its taker's to run and remove. */
export interface WarmContainer {
  readonly id: string;
  readonly token: string;
  readonly attachment: Attachment;
  readonly exit: Promise<ContainerExit>;
}

/** One in the pool. Times are monotonic. */
export interface Waiting extends WarmContainer {
  readonly sinceMs: number;
  /** False once it ended: it is never handed out then. */
  alive: boolean;
}

/** What a start needs. */
export interface WarmStartPorts {
  readonly engine: ContainerEngine;
  readonly clock: Clock;
  readonly reaper: ContainerReaper;
  readonly instanceId: string;
  readonly settings: WarmSettings;
}

/** Makes and starts one in the shape of `template`, connected to. What was made is removed if a later step fails. */
export async function startWarm(ports: WarmStartPorts, template: ContainerSpec): Promise<Waiting> {
  const { engine, clock, instanceId, settings, reaper } = ports;
  const warmId = newId();
  const spec = warmContainerSpec(template, {
    warmId,
    instanceId,
    initPath: settings.initPath,
    script: INIT_SCRIPT,
    token: initToken(warmId),
  });
  const id = await engine.createContainer(spec);
  let attachment: Attachment | undefined;
  try {
    attachment = await engine.attach(id, true);
    const { exit } = await engine.armExit(id);
    exit.catch(() => undefined);
    await engine.start(id);
    return { id, token: initToken(warmId), attachment, exit, sinceMs: clock.monotonic(), alive: true };
  } catch (error) {
    attachment?.destroy();
    await reaper.remove(id);
    throw error;
  }
}
