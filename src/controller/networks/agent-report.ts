// What an agent last said of its networks, read for what is to be known of one of them. Pure.
import { fromBinary } from '@bufbuild/protobuf';
import { type StateReport, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason, ErrorSchema, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import { NetworkState, type NetworkStatus } from '#gen/longline/v1/network_pb.js';
import { parsePublicKey } from '../../core/wireguard-keys.ts';
import type { MemberFacts } from '../mesh/progress.ts';
import type { MemberFactsRecord, NetworkRecord } from '../store/network.ts';

/** A generation that an agent refused, with its serialised longline.v1.Error. */
export interface Refusal {
  readonly generation: bigint;
  readonly error: Uint8Array;
}

/** How far an agent is with one network. */
export interface NetworkStanding {
  /** It applied what was last wanted of this network, wholly or as far as its items say. */
  readonly applied: boolean;
  /** Why it didn't. */
  readonly error: WireError | undefined;
  /** As it last said, whatever was wanted then. */
  readonly status: NetworkStatus | undefined;
}

/** Latest report of an agent on its networks. */
export function readReport(bytes: Uint8Array): StateReport {
  return fromBinary(StateReportSchema, bytes);
}

/** What a report says of a network by name. */
export function statusIn(report: StateReport | undefined, name: string): NetworkStatus | undefined {
  if (report?.detail.case !== 'network') return undefined;
  return report.detail.value.networks.find((network) => network.name === name);
}

/** Compares what is wanted with what was said. */
export function standingOf(
  network: Pick<NetworkRecord, 'name' | 'generation'>,
  report: StateReport | undefined,
  refusal: Refusal | undefined,
): NetworkStanding {
  const applied = report !== undefined && report.generation >= network.generation;
  const refused = refusal !== undefined && refusal.generation >= network.generation;
  const error = refused ? fromBinary(ErrorSchema, refusal.error) : undefined;
  // What was applied stays when something later is refused, which was asked of another network.
  const stays = applied && refused && refusal.generation > report.generation && !isOfAll(error!);
  const status = statusIn(report, network.name);
  return stays || error === undefined ? { applied, error: undefined, status } : { applied: false, error, status };
}

/** Networks can't be had there at all. */
function isOfAll({ reason }: WireError): boolean {
  return reason === ErrorReason.UNSUPPORTED || reason === ErrorReason.UNAVAILABLE;
}

/** What its agent says of a member of a mesh. */
export function memberFacts(record: MemberFactsRecord): MemberFacts {
  const { network, refusal } = record;
  const report = record.report && readReport(record.report.bytes);
  const { applied, status } =
    network === undefined ? { applied: false, status: undefined } : standingOf(network, report, refusal);
  // What it said before it was asked this is no answer.
  const answer = applied && !network!.removing ? status : undefined;
  const works = answer?.state === NetworkState.UP || answer?.state === NetworkState.DEGRADED;
  return {
    gone: !record.valid,
    settled: works,
    cleared: network === undefined || (network.removing && applied && status === undefined),
    // One that is no key would have the others refuse all that they are asked.
    keys: new Map(
      answer?.keys.flatMap(({ epoch, publicKey }) =>
        parsePublicKey(publicKey) === undefined ? [] : [[epoch, publicKey]],
      ),
    ),
    keyEpoch: answer?.keyEpoch ?? 0,
    refused: new Set(answer === undefined ? [] : report!.items.map(({ item }) => item)),
  };
}
