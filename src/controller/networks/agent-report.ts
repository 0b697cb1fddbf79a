// What an agent last said of its networks, read for what is to be known of one of them. Pure.
import type { StateReport } from '#gen/longline/link/v1/link_pb.js';
import { NetworkState, type NetworkStatus } from '#gen/longline/v1/network_pb.js';
import { parsePublicKey } from '../../core/wireguard-keys.ts';
import type { MemberFacts } from '../mesh/progress.ts';
import { type Refusal, readReport, type Standing, standingAt } from '../states/standing.ts';
import type { MemberFactsRecord, NetworkRecord } from '../store/network.ts';

/** How far an agent is with one network. */
export interface NetworkStanding extends Standing {
  /** As it last said, whatever was wanted then. */
  readonly status: NetworkStatus | undefined;
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
  return { ...standingAt(network.generation, report, refusal), status: statusIn(report, network.name) };
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
