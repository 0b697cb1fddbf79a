// What a host lets be done on it. The agent's own word: no controller and no signature can loosen it.
// Default deny for anything that reaches beyond the hardened sandbox. Pure: files and paths are looked at elsewhere.
import { EVERY_IMAGE, type ImagePattern } from '../images/image-pattern.ts';

import type { MountRequest, MountRule } from './mount.ts';
import {
  DEFAULT_SESSION_POLICY,
  type SessionPolicy,
  type SessionRequest,
  type TunnelRequest,
} from './session-policy.ts';

export type { MountRequest, MountRule } from './mount.ts';

/** Bounds of a job. What is above is refused, not cut down. */
export interface JobLimits {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly tmpBytes: number;
  readonly timeoutMs: number;
  readonly outputBytes: number;
  readonly stopGraceMs: number;
}

/** What a job in an image may loosen. Everything not listed stays as in the hardened sandbox. */
export interface ImageRule {
  /** Names the rule in refusals: "images.NAME", or "images[0]" if the file gives no name. */
  readonly rule: string;
  readonly pattern: ImagePattern;
  /** True if only references by digest are taken. */
  readonly requireDigest: boolean;
  /** "bridge", "host", or "named:" and a pattern of network names. */
  readonly networks: readonly string[];
  /** "1000:1000", "app", or "*:*" with "*" for any number but 0. */
  readonly users: readonly string[];
  /** Linux capabilities without CAP_. */
  readonly capabilities: readonly string[];
  readonly runtimes: readonly string[];
  readonly writableRoot: boolean;
  readonly newPrivileges: boolean;
  readonly mounts: readonly MountRule[];
  /** Replace the general limits. */
  readonly limits: Partial<JobLimits>;
}

/** Which keys may use which capability in whose name, within what the trust file grants them. */
export interface SignerRule {
  readonly rule: string;
  /** Pattern of key ids. */
  readonly keyId: string;
  readonly capabilities: readonly string[];
  /** Patterns of controller ids. */
  readonly controllers: readonly string[];
}

/** A parsed policy. */
export interface Policy {
  readonly signatures: {
    /** Capabilities whose commands must be signed. */
    readonly require: readonly string[];
    /** Longest time between issue and expiry of a statement. */
    readonly maxLifetimeMs: number;
  };
  /** Empty: every trusted key, as far as the trust file goes. */
  readonly signers: readonly SignerRule[];
  /** The first that matches an image decides. */
  readonly images: readonly ImageRule[];
  /** For all images. What is left out is bounded by the host's own settings (jobs.max_…) alone. */
  readonly limits: Partial<JobLimits>;
  readonly sessions: SessionPolicy;
}

/** The job a policy is asked about, with the agent's defaults filled in. */
export interface SandboxRequest {
  readonly image: string;
  /** 'unknown' for a mode this version doesn't know; it is refused. */
  readonly network: { readonly mode: 'none' | 'bridge' | 'host' | 'named' | 'unknown'; readonly name: string };
  /** "uid:gid", or names. */
  readonly user: string;
  readonly addCapabilities: readonly string[];
  /** Empty for the agent's default. */
  readonly runtime: string;
  readonly writableRoot: boolean;
  readonly newPrivileges: boolean;
  readonly mounts: readonly MountRequest[];
  readonly limits: JobLimits;
}

/** What a policy is asked. */
export interface PolicyRequest {
  readonly capability: string;
  readonly controllerId: string;
  /** Undefined for an unsigned command. */
  readonly keyId: string | undefined;
  /** Undefined for what is no job. */
  readonly job: SandboxRequest | undefined;
  /** Undefined for what starts no session. */
  readonly session?: SessionRequest | undefined;
  /** Undefined for what opens no way into a session. */
  readonly tunnel?: TunnelRequest | undefined;
}

/** What one rule said. */
export interface Decision {
  readonly rule: string;
  readonly allowed: boolean;
  /** Why, with value and limit. */
  readonly explanation: string;
}

/** Capabilities that a policy may name. */
export const CAPABILITY_NAMES = ['jobs', 'sessions', 'network', 'programs', 'workloads'] as const;

/** In force without a policy file: jobs and programs signed, any image, nothing of the sandbox loosened. */
export const DEFAULT_POLICY: Policy = {
  signatures: { require: ['jobs', 'programs'], maxLifetimeMs: 24 * 3_600_000 },
  signers: [],
  images: [
    {
      rule: 'images.default',
      pattern: EVERY_IMAGE,
      requireDigest: false,
      networks: [],
      users: [],
      capabilities: [],
      runtimes: [],
      writableRoot: false,
      newPrivileges: false,
      mounts: [],
      limits: {},
    },
  ],
  limits: {},
  sessions: DEFAULT_SESSION_POLICY,
};
