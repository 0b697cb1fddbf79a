// What a host lets sessions be. What every session gets is the ground: a network of its own without way in, no
// capabilities beyond the engine's least, the image's own user, volumes of its own. All beyond it has to be listed.
import { EVERY_IMAGE, type ImagePattern } from '../images/image-pattern.ts';
import type { MountRequest, MountRule } from './mount.ts';

/** Bounds of a session. What is above is refused, not cut down. */
export interface SessionLimits {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly shmBytes: number;
  /** 0 for no limit, which only a policy without this limit allows. */
  readonly lifetimeMs: number;
}

/** What a session of an image may be beyond the ground. */
export interface SessionImageRule {
  /** Names the rule in refusals: "sessions.images.NAME", or "sessions.images[0]" if the file gives no name. */
  readonly rule: string;
  readonly pattern: ImagePattern;
  /** True if only references by digest are taken. */
  readonly requireDigest: boolean;
  /** "shared", or "named:" and a pattern of network names. */
  readonly networks: readonly string[];
  /** As in ImageRule. A session that names no user gets that of its image. */
  readonly users: readonly string[];
  /** Linux capabilities without CAP_. */
  readonly capabilities: readonly string[];
  readonly runtimes: readonly string[];
  readonly newPrivileges: boolean;
  /** Host folders. */
  readonly mounts: readonly MountRule[];
  /** Patterns of volumes of scope SHARED. */
  readonly sharedVolumes: readonly string[];
  /** Volume drivers beside the host's own, which is always allowed as long as it is given no options. */
  readonly volumeDrivers: readonly string[];
  /** Replace the general limits. */
  readonly limits: Partial<SessionLimits>;
}

/** Ways into a session. */
export type TunnelKind = 'port' | 'exec' | 'attach';

/** A way into a session that a policy is asked about. */
export interface TunnelRequest {
  readonly kind: TunnelKind;
  /** Whom a process is to run as, if that is somebody else than the session's own user, and in which image. */
  readonly other?: { readonly user: string; readonly image: string } | undefined;
}

/** The part of a policy that is about sessions. */
export interface SessionPolicy {
  /** The first that matches an image decides. */
  readonly images: readonly SessionImageRule[];
  readonly limits: Partial<SessionLimits>;
  /** Ways in that are open. */
  readonly tunnels: readonly TunnelKind[];
}

/** The session a policy is asked about, with the host's defaults filled in. */
export interface SessionRequest {
  readonly image: string;
  /** 'unknown' for a mode this version doesn't know; it is refused. */
  readonly network: { readonly mode: 'isolated' | 'shared' | 'named' | 'none' | 'unknown'; readonly name: string };
  /** Empty for the image's own. */
  readonly user: string;
  readonly addCapabilities: readonly string[];
  /** Empty for the host's default. */
  readonly runtime: string;
  readonly newPrivileges: boolean;
  readonly mounts: readonly MountRequest[];
  /** Names of volumes of scope SHARED. */
  readonly sharedVolumes: readonly string[];
  /** Drivers of its volumes, beside the host's own without options. */
  readonly volumeDrivers: readonly string[];
  readonly limits: SessionLimits;
}

/** In force without a policy file: any image, nothing beyond the ground but users that aren't root. */
export const DEFAULT_SESSION_POLICY: SessionPolicy = {
  images: [
    {
      rule: 'sessions.images.default',
      pattern: EVERY_IMAGE,
      requireDigest: false,
      networks: [],
      users: ['*:*'],
      capabilities: [],
      runtimes: [],
      newPrivileges: false,
      mounts: [],
      sharedVolumes: [],
      volumeDrivers: [],
      limits: {},
    },
  ],
  limits: {},
  tunnels: ['port', 'exec', 'attach'],
};
