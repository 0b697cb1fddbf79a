// What the agent knows of the election: whether this replica may act, and in which epoch. Nothing else of it gets past here.

import type { LonglineError } from '../../core/errors.ts';

/** What status tells. */
export interface LeadershipView {
  readonly role: 'leader' | 'standby';
  /** Epoch of the leader, as far as it is known. */
  readonly epoch: bigint;
  /** Who leads; empty if that isn't known. */
  readonly leader: string;
  /** What replicas elect by. */
  readonly backend: string;
  /** Why that can't be asked; empty if it can. */
  readonly problem: string;
  /** For how long it can't be asked, milliseconds; 0 if it can. */
  readonly problemMs: number;
  /** False before it was ever asked. */
  readonly asked: boolean;
  /** How long this replica has had this role, milliseconds. */
  readonly roleMs: number;
}

/** This replica's standing while an agent runs. */
export interface Leadership {
  /** 0 where there never was an election. */
  readonly epoch: bigint;
  /** False from the moment on at which another may lead; undefined where there is no election. Asked before each effect. */
  readonly mayAct?: () => boolean;
  /** Hears how the controller receives this replica; undefined where there is no election. */
  readonly reception?: {
    welcomed(): void;
    refused(error: LonglineError): void;
  };
  /** For status; undefined where there is no election. */
  readonly view?: () => LeadershipView;
}
