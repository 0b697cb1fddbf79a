// Assignments of programs as they are asked for: everything that is wrong, and the one complete form in which they are stored.
import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  type ProgramAssignment,
  ProgramAssignmentSchema,
  ProgramDelivery,
  type RolloutStrategy,
  RolloutStrategySchema,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { type Selector, SelectorSchema } from '#gen/longline/v1/agent_pb.js';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import type { Store } from '../store/store.ts';
import { programNameViolations } from './program-filter.ts';
import { shapeProgram } from './program-methods.ts';
import { selectorViolations } from './selector.ts';
import { Shape, shown } from './shape.ts';

const MAX_WAVES = 100;
const DAY_MS = 86_400_000;
const DEFAULT_PAUSE_MS = 60_000;
const DEFAULT_TIMEOUT_MS = 600_000;
const LEAST_TIMEOUT_MS = 1000;

/** An assignment as it is stored. */
export interface ShapedAssignment {
  readonly assignment: ProgramAssignment;
  /** `assignment`, serialised. */
  readonly bytes: Uint8Array;
}

/**
 * The one form of what is asked for. Throws `invalid` with every wrong field below `path`, and `wrong_state` if its artifact isn't
 * stored.
 */
export async function shapeAssignment(
  store: Pick<Store, 'artifacts'>,
  asked: ProgramAssignment,
  path: string,
): Promise<ShapedAssignment> {
  const { name, selector } = asked;
  const violations: FieldViolation[] = [...programNameViolations(name, `${path}.name`)];
  if (selector !== undefined) violations.push(...selectorViolations(selector, `${path}.selector`));
  const shape = new Shape(path);
  const known = [ProgramDelivery.UNSPECIFIED, ProgramDelivery.PUSH, ProgramDelivery.POLL];
  shape.require(known.includes(asked.delivery), 'delivery', `is ${asked.delivery}; must be PUSH or POLL`);
  violations.push(...shape.found, ...strategyViolations(asked.strategy, `${path}.strategy`));
  const spec = await shapedSpec(store, asked, path, violations);
  const assignment = create(ProgramAssignmentSchema, {
    name,
    spec,
    selector: canonicalSelector(selector),
    delivery: asked.delivery === ProgramDelivery.POLL ? ProgramDelivery.POLL : ProgramDelivery.PUSH,
    strategy: completeStrategy(asked.strategy),
  });
  return { assignment, bytes: toBinary(ProgramAssignmentSchema, assignment, { writeUnknownFields: false }) };
}

async function shapedSpec(
  store: Pick<Store, 'artifacts'>,
  { name, spec }: ProgramAssignment,
  path: string,
  violations: FieldViolation[],
) {
  if (spec === undefined) {
    violations.push({ field: `${path}.spec`, description: 'is missing' });
    throw invalid(violations);
  }
  if (spec.name !== '' && spec.name !== name) {
    const description = `${shown(spec.name)}; must be ${shown(name)} as the assignment, or left out`;
    violations.push({ field: `${path}.spec.name`, description });
  }
  try {
    // Its name is judged as that of the assignment.
    const named = programNameViolations(name, 'name').length > 0 ? 'x' : name;
    const shaped = await shapeProgram(store, create(ProgramSpecSchema, { ...spec, name: named }), `${path}.spec`);
    if (violations.length === 0) return shaped;
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    if (error.reason !== 'invalid' && violations.length === 0) throw error;
    violations.push(...error.violations);
  }
  throw invalid(violations);
}

function strategyViolations(strategy: RolloutStrategy | undefined, path: string): readonly FieldViolation[] {
  if (strategy === undefined) return [];
  const shape = new Shape(path);
  const { maxFailedPercent, pause, waves, waveTimeout } = strategy;
  if (shape.atMost(waves.length, MAX_WAVES, 'waves')) {
    for (const [place, percent] of waves.entries()) {
      const field = `waves[${place}]`;
      shape.require(percent >= 1 && percent <= 100, field, `is ${percent}; must be 1 to 100`);
      const before = place === 0 ? 0 : waves[place - 1]!;
      shape.require(percent > before, field, `is ${percent}; must be more than ${before}, the one before`);
    }
  }
  shape.duration(pause, 'pause', 0, DAY_MS);
  shape.duration(waveTimeout, 'wave_timeout', LEAST_TIMEOUT_MS, DAY_MS);
  shape.require(maxFailedPercent <= 100, 'max_failed_percent', `is ${maxFailedPercent}; must be 0 to 100`);
  return shape.found;
}

function completeStrategy(strategy: RolloutStrategy | undefined): RolloutStrategy {
  const { keepOnHalt, manual, maxFailedPercent, pause, waves, waveTimeout } = strategy ?? create(RolloutStrategySchema);
  return create(RolloutStrategySchema, {
    // The last one is of everybody who is left.
    waves: waves.at(-1) === 100 ? waves : [...waves, 100],
    pause: pause ?? durationFromMs(DEFAULT_PAUSE_MS),
    manual,
    maxFailedPercent,
    waveTimeout: waveTimeout ?? durationFromMs(DEFAULT_TIMEOUT_MS),
    keepOnHalt,
  });
}

/** So that the same selector is the same bytes. */
function canonicalSelector(selector: Selector | undefined): Selector {
  const { agentIds, hasLabels, matchLabels } = selector ?? create(SelectorSchema);
  const labels = Object.entries(matchLabels).sort(([one], [other]) => (one < other ? -1 : 1));
  return create(SelectorSchema, {
    matchLabels: Object.fromEntries(labels),
    hasLabels: [...new Set(hasLabels)].sort(),
    agentIds: [...new Set(agentIds)].sort(),
  });
}
