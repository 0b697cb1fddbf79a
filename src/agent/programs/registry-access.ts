// How this agent reaches the registry that its settings name: the controller's with the identity of the link, any other with what the
// settings say. Read anew for each request, so that renewed certificates and exchanged files take effect.
import { readFile } from 'node:fs/promises';
import { fromJson, type JsonValue, toBinary } from '@bufbuild/protobuf';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type { LinkTarget } from '../../link/ports.ts';
import type { RegistryAccess } from '../../platform/registry/http-client.ts';
import type { AgentConfig } from '../config.ts';
import { readGuardedFile } from '../trust/guarded-file.ts';

type RegistrySettings = AgentConfig['programs']['registry'];

/** Where the controller's own registry is, below its URL. */
export const CONTROLLER_REGISTRY_PATH = '/registry/v1';

/** Access to the registry of the settings. `controller` gives what the link dials with; asked only where that is the registry. */
export async function registryAccess(
  settings: RegistrySettings,
  controller: () => Promise<LinkTarget>,
): Promise<RegistryAccess> {
  if (settings.url === 'controller') return controllerAccess(await controller());
  const { url: baseUrl, token, caFile, certificateFile, keyFile } = settings;
  return {
    baseUrl,
    headers: token === undefined ? {} : { authorization: `Bearer ${token.reveal()}` },
    tls: {
      ca: await read('programs.registry_ca_file', caFile),
      cert: await read('programs.registry_cert_file', certificateFile),
      key:
        keyFile === undefined
          ? undefined
          : await readGuardedFile(keyFile, { what: 'programs.registry_key_file', secret: true }),
    },
  };
}

function controllerAccess({ url, agentId, credentials }: LinkTarget): RegistryAccess {
  const baseUrl = `${url}${CONTROLLER_REGISTRY_PATH}`;
  const ca = credentials.trustedCertificates;
  if (credentials.kind === 'certificate') {
    return { baseUrl, headers: {}, tls: { ca, cert: credentials.certificateChain, key: credentials.privateKey } };
  }
  const headers = { authorization: `Bearer ${credentials.apiKey}`, 'longline-agent-id': agentId };
  return { baseUrl, headers, tls: { ca } };
}

async function read(setting: string, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new LonglineError('unavailable', `${setting}: can't read ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/**
 * A ProgramSpec from ProtoJSON, serialised. Throws `invalid` for what is none, also for a field that this version doesn't know: it may be
 * one that says where a program must not run.
 */
export function encodeSpec(spec: unknown): Uint8Array {
  try {
    return toBinary(ProgramSpecSchema, fromJson(ProgramSpecSchema, spec as JsonValue));
  } catch (error) {
    throw new LonglineError('invalid', `no ProgramSpec: ${(error as Error).message.slice(0, 500)}`, { cause: error });
  }
}
