// What tests of registries share: a client with short limits, and what it gives.
import assert from 'node:assert/strict';
import { fromJson, toBinary } from '@bufbuild/protobuf';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { LonglineError } from '../../../src/core/errors.ts';
import type { RegistryAccess } from '../../../src/platform/registry/http-client.ts';
import { HttpRegistry, type HttpRegistryOptions } from '../../../src/platform/registry/http-registry.ts';

export const never = new AbortController().signal;

/** A registry client of host "host-1". The limits on time are long unless a test is about them. */
export function registryClient(
  access: Partial<RegistryAccess> & { readonly baseUrl: string },
  options: Partial<HttpRegistryOptions> = {},
): HttpRegistry {
  return new HttpRegistry({
    dialect: 'longline',
    hostId: 'host-1',
    access: async () => ({ headers: {}, tls: {}, ...access }),
    encode: (spec) => {
      try {
        return toBinary(ProgramSpecSchema, fromJson(ProgramSpecSchema, spec as never));
      } catch (error) {
        throw new LonglineError('invalid', (error as Error).message);
      }
    },
    ...options,
  });
}

/** All bytes of an artifact from an offset on; pieces have to fit together. */
export async function readAll(registry: HttpRegistry, digest: string, offset = 0): Promise<Buffer> {
  let parts: Buffer[] = [];
  let at = offset;
  for await (const { offset: from, data } of registry.read(digest, offset, never)) {
    if (from === 0) {
      parts = [];
      at = 0;
    }
    assert.equal(from, at, 'pieces come in order and without holes');
    parts.push(Buffer.from(data));
    at += data.length;
  }
  return Buffer.concat(parts);
}

/** For assert.rejects. */
export function failsWith(reason: LonglineError['reason'], message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof LonglineError, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, message);
    return true;
  };
}
