// Mounts as a policy lists them and as they are asked for.

/** A host folder or volume that may be mounted. */
export interface MountRule {
  /** Absolute path: the folder and what is below. Or "volume:" and a pattern of volume names. */
  readonly source: string;
  readonly writable: boolean;
}

/** A mount asked for. */
export interface MountRequest {
  readonly source: string;
  readonly target: string;
  readonly writable: boolean;
}
