// The shape of a network: what no agent could bring about, by the same rules as an agent's own file; and the network in the one
// form that is stored, so that the same spec is the same bytes however it was written. All mistakes are told at once. Pure.
import { create } from '@bufbuild/protobuf';
import {
  type NetworkProblem,
  NetworkProblemSchema,
  type NetworkSpec,
  NetworkSpecSchema,
} from '#gen/longline/v1/network_pb.js';
import type { FieldViolation } from '../../core/errors.ts';
import { draftOf, messageOf } from '../../core/network/network-message.ts';
import { checkNetwork } from '../../core/network/network-spec.ts';

/** Most violations and warnings that are told of one network. */
const MAX_TOLD = 50;

/** A network that was checked. */
export interface ShapedNetwork {
  /** In canonical form; to be used only if there are no violations. */
  readonly spec: NetworkSpec;
  readonly violations: readonly FieldViolation[];
  readonly warnings: readonly NetworkProblem[];
}

/**
 * Checks a network; `path` is where it lies in the request. A prefix that two peers have is at the later only after it: agents
 * get peers in the order of their keys, and couldn't tell which is the later.
 */
export function shapeNetwork(asked: NetworkSpec, path: string): ShapedNetwork {
  const violations: FieldViolation[] = [];
  const warnings: NetworkProblem[] = [];
  const checked = checkNetwork(
    draftOf(asked),
    (field, description) => violations.push({ field: `${path}.${field}`, description }),
    (field, message) => warnings.push(create(NetworkProblemSchema, { field, message, harmless: true })),
  );
  return {
    spec: create(NetworkSpecSchema, messageOf(checked)),
    violations: violations.slice(0, MAX_TOLD),
    warnings: warnings.slice(0, MAX_TOLD),
  };
}
