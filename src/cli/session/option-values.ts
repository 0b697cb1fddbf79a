// Parsers for the options of sessions: volumes, ports, health checks.
import { InvalidArgumentError } from 'commander';
import { SessionPortProtocol, SessionVolumeScope } from '#gen/longline/v1/session_pb.js';

/** A volume as an option gives it. */
export interface VolumeValue {
  readonly scope: SessionVolumeScope;
  readonly name: string;
  readonly target: string;
  readonly readOnly: boolean;
}

const SCOPES: Readonly<Record<string, SessionVolumeScope>> = {
  '': SessionVolumeScope.SESSION,
  'owner/': SessionVolumeScope.OWNER,
  'shared/': SessionVolumeScope.SHARED,
};

/** "home:/home/me", "owner/home:/home/me", "shared/data:/data:ro"; repeatable. */
export function volumeValue(text: string, before: readonly VolumeValue[] | undefined): readonly VolumeValue[] {
  const match = /^(owner\/|shared\/|)([a-z0-9][a-z0-9_-]{0,31}):(\/[^:]*)(:ro)?$/.exec(text);
  if (match === null) {
    throw new InvalidArgumentError('Give NAME:/TARGET or NAME:/TARGET:ro, with owner/ or shared/ before the name.');
  }
  const [, scope = '', name = '', target = '', readOnly] = match;
  return [...(before ?? []), { scope: SCOPES[scope]!, name, target, readOnly: readOnly !== undefined }];
}

/** A port as an option gives it. */
export interface PortValue {
  readonly name: string;
  readonly number: number;
  readonly protocol: SessionPortProtocol;
}

const PROTOCOLS: Readonly<Record<string, SessionPortProtocol>> = {
  raw: SessionPortProtocol.RAW,
  vnc: SessionPortProtocol.VNC,
  http: SessionPortProtocol.HTTP,
  ssh: SessionPortProtocol.SSH,
};

/** "8080", "web:8080", "web:8080/http"; repeatable. A port without a name is named by its number. */
export function portValue(text: string, before: readonly PortValue[] | undefined): readonly PortValue[] {
  const match = /^(?:([a-z][a-z0-9-]{0,31}):)?(\d{1,5})(?:\/(raw|vnc|http|ssh))?$/.exec(text);
  const number = Number(match?.[2] ?? 0);
  if (match === null || number < 1 || number > 65_535) {
    throw new InvalidArgumentError('Give PORT, NAME:PORT or NAME:PORT/PROTOCOL, with raw, vnc, http or ssh.');
  }
  const name = match[1] ?? `p${number}`;
  return [...(before ?? []), { name, number, protocol: PROTOCOLS[match[3] ?? 'raw']! }];
}

/** A probe as an option gives it. */
export interface HttpProbeValue {
  readonly port: number;
  readonly path: string;
}

/** "8080" or "8080/healthz". */
export function httpProbeValue(text: string): HttpProbeValue {
  const match = /^(\d{1,5})(\/[\x21-\x7e]*)?$/.exec(text);
  const port = Number(match?.[1] ?? 0);
  if (match === null || port < 1 || port > 65_535) throw new InvalidArgumentError('Give PORT or PORT/PATH.');
  return { port, path: match[2] ?? '/' };
}
