// Where programs are in their lives and why they were rolled back, by the names that people read. Pure.

/** In the order of longline.v1.ProgramState, whose 0 is none of them. */
export const PROGRAM_STATES = [
  'discovered',
  'fetched',
  'verified',
  'loaded',
  'attached',
  'probation',
  'active',
  'updating',
  'rolling_back',
  'expired',
  'detached',
  'unloaded',
  'failed',
] as const;

/** Where a program is in its life. */
export type ProgramStateName = (typeof PROGRAM_STATES)[number];

/** In the order of longline.v1.ProgramRollbackTrigger, whose 0 is none of them. */
export const ROLLBACK_TRIGGERS = [
  'errors',
  'violations',
  'cpu',
  'latency',
  'memory',
  'verifier',
  'attach',
  'request',
] as const;

/** Why a program was rolled back. */
export type RollbackTrigger = (typeof ROLLBACK_TRIGGERS)[number];
