// Where functions of a revision are attached, and under which name the kernel's side keeps each attachment. A place of an atomic type
// has the same name in every revision, so that the next one takes it over in one step; of other types each revision has names of its
// own, since the next one is attached beside it. Pure.
import { hash } from 'node:crypto';
import { type AttachPoint, attachText } from '../../core/programs/attach-point.ts';
import type { FunctionRequest, ProgramType, TypeSupport } from './ports.ts';

/** One attachment of a revision, as it is kept. */
export interface Place {
  readonly slot: string;
  readonly function: string;
  readonly type: ProgramType;
  readonly point: AttachPoint;
  readonly atomic: boolean;
}

/** The places of a revision. */
export function placesOf(
  functions: readonly FunctionRequest[],
  revision: number,
  types: readonly TypeSupport[],
): readonly Place[] {
  return functions.flatMap(({ name, type, points }) =>
    points.map((point) => {
      const atomic = types.find((support) => support.type === type)?.atomic ?? false;
      return { slot: slotOf(name, type, point, atomic, revision), function: name, type, point, atomic };
    }),
  );
}

/** What only one function can have at a time, as text; undefined for places that take several. */
export function exclusiveKey({ point }: Place): string | undefined {
  return point.kind === 'xdp' ? `xdp:${point.interface}` : undefined;
}

function slotOf(name: string, type: ProgramType, point: AttachPoint, atomic: boolean, revision: number): string {
  // An interface has one XDP function, whatever it is called; elsewhere two of one revision may share a place.
  const whose = type === 'xdp' ? '' : name;
  const digest = hash('sha256', `${type}\n${whose}\n${attachText(point)}`).slice(0, 16);
  return atomic ? `${type}_${digest}` : `${type}_${digest}_r${revision}`;
}
