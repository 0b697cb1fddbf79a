// What is wanted of one network, ready to be brought about: its spec without the parts that can't be had, and what was wrong with
// those. One malformed peer costs the others nothing. Pure.
import { type FieldViolation, invalid, type LonglineError } from '../../core/errors.ts';
import { checkNetwork, type NetworkDraft, type NetworkSpec, type PeerDraft } from '../../core/network/network-spec.ts';
import type { Problem, Source } from './status.ts';

/** A part that can't be had. */
export interface RefusedItem {
  /** A peer's public key, or the name of the network. */
  readonly item: string;
  readonly error: LonglineError;
}

/** A network that is wanted. */
export interface NetworkOrder {
  readonly source: Source;
  readonly spec: NetworkSpec;
  /** Warnings, and what was left out. */
  readonly problems: readonly Problem[];
  readonly refused: readonly RefusedItem[];
}

const PEER_FIELD = /^peers\[(\d+)\]/;

/** Checks all of a draft. Throws `invalid` with everything that is wrong. */
export function strictOrder(source: Source, draft: NetworkDraft): NetworkOrder {
  const { spec, violations, warnings } = check(draft);
  if (violations.length > 0) throw invalid(violations);
  return { source, spec, problems: warnings, refused: [] };
}

/** Leaves out peers that are wrong. Throws `invalid` if something else is. */
export function lenientOrder(source: Source, draft: NetworkDraft): NetworkOrder {
  const first = check(draft);
  if (first.violations.length === 0) return { source, spec: first.spec, problems: first.warnings, refused: [] };
  const ofPeers = first.violations.filter(({ field }) => PEER_FIELD.test(field));
  const others = first.violations.filter(({ field }) => !PEER_FIELD.test(field));
  if (others.length > 0) throw invalid(others);
  const wrong = new Set(ofPeers.map(({ field }) => Number(PEER_FIELD.exec(field)![1])));
  const { spec, warnings } = check({ ...draft, peers: draft.peers.filter((_peer, place) => !wrong.has(place)) });
  const refused = [...wrong].map((place) => ({
    item: itemName(draft.peers[place], place),
    error: invalid(ofPeers.filter(({ field }) => field.startsWith(`peers[${place}]`))),
  }));
  const problems = ofPeers.map(({ field, description }) => ({ field, message: description, harmless: false }));
  return { source, spec, problems: [...warnings, ...problems], refused };
}

function check(draft: NetworkDraft) {
  const violations: FieldViolation[] = [];
  const warnings: Problem[] = [];
  const spec = checkNetwork(
    draft,
    (field, description) => violations.push({ field, description }),
    (field, message) => warnings.push({ field, message, harmless: true }),
  );
  return { spec, violations, warnings };
}

function itemName(peer: PeerDraft | undefined, place: number): string {
  return peer?.publicKey?.slice(0, 64) || `peers[${place}]`;
}
