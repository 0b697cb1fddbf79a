// The registry of our controller, and of anybody who speaks as it does: specs of programs as they are, artifacts by digest.
import { LonglineError } from '../../core/errors.ts';
import { digestHex } from '../../core/programs/artifact-source.ts';
import { isObject, type ListedProgram, MAX_LISTED, nameIn, type RegistryDialect } from './dialect.ts';

/** GET healthz, hosts/{host_id}/programs, artifacts/{digest}. */
export const longlineDialect: RegistryDialect = {
  healthPath: 'healthz',
  listPath: (hostId) => `hosts/${encodeURIComponent(hostId)}/programs`,
  artifactPath: (digest) => `artifacts/sha256:${digestHex(digest)}`,
  readList: (body) => {
    const programs = isObject(body) ? body['programs'] : undefined;
    if (!Array.isArray(programs)) {
      throw new LonglineError('unavailable', 'the registry sent no list: it must be {"programs": […]}');
    }
    if (programs.length > MAX_LISTED) {
      throw new LonglineError(
        'unavailable',
        `the registry lists ${programs.length} programs; at most ${MAX_LISTED} are taken`,
      );
    }
    return { programs: programs.map(listed), refused: [], paths: new Map() };
  },
};

function listed(spec: unknown, position: number): ListedProgram {
  return { item: nameIn(spec) ?? `programs[${position}]`, spec };
}
