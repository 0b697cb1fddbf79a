// An artifact's metadata for tests, with as much in it as can be.
import { parseAttach } from '../../../src/core/programs/attach-point.ts';
import type { ArtifactFunction, ArtifactMetadata, ArtifactParameter } from '../../../src/core/programs/metadata.ts';
import type { ProgramType } from '../../../src/core/programs/program-type.ts';

export function functionOf(name: string, type: ProgramType, attach: readonly string[] = []): ArtifactFunction {
  const requests = attach.map((text) => {
    const read = parseAttach(text);
    if (!read.ok) throw new Error(read.problem);
    return read.request;
  });
  return { name, type, attach: requests };
}

export function parameterOf(draft: Partial<ArtifactParameter> & { readonly name: string }): ArtifactParameter {
  return {
    description: '',
    type: 'uint',
    target: { kind: 'variable', variable: draft.name },
    min: undefined,
    max: undefined,
    choices: [],
    defaultText: undefined,
    required: false,
    ...draft,
  };
}

export function metadataOf(draft: Partial<ArtifactMetadata>): ArtifactMetadata {
  return {
    name: 'drop',
    version: '1.0.0',
    description: '',
    objectSha256: '0'.repeat(64),
    objectSize: 1,
    functions: [functionOf('count', 'xdp', ['xdp:eth0'])],
    parameters: [],
    counters: { packets: undefined, violations: undefined, errors: undefined, others: {} },
    events: [],
    thresholds: {},
    minimumKernel: undefined,
    ttlMs: undefined,
    freshMaps: [],
    expiresAtMs: undefined,
    ...draft,
  };
}
