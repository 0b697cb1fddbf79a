// Checks an audit file against itself and against checkpoints that were kept elsewhere, and says where it was touched.
// What it can find by itself: any edit of a record, a record cut out, moved or put in. What only kept checkpoints show: an
// end that was cut off, and a chain that was written anew by somebody who has the host.
import { hash } from 'node:crypto';
import { type AuditCheckpoint, checkpointFault } from '../../core/audit/audit-checkpoint.ts';
import { chainStart, HASH_BYTES } from '../../core/audit/audit-record.ts';
import { LonglineError } from '../../core/errors.ts';
import { AuditReader } from '../../platform/sqlite/audit-reader.ts';

/** One thing that is wrong. */
export interface AuditFinding {
  readonly kind: /** A record, or the hash beside it, isn't what was written. */
    | 'edited'
    /** Records are missing before this one. */
    | 'missing'
    /** The end is missing: a checkpoint covers more than there is. */
    | 'truncated'
    /** The chain isn't the one that a checkpoint covers. */
    | 'replaced'
    /** A checkpoint is wrong by itself. */
    | 'checkpoint'
    /** Tables or triggers were changed. */
    | 'schema'
    /** The file is damaged. */
    | 'damaged';
  /** Record it is about; undefined if it is about the file. */
  readonly sequence: number | undefined;
  readonly explanation: string;
}

/** What verification found. The log is as it was written, as far as can be told, if there are no findings. */
export interface AuditVerification {
  readonly chainId: string;
  readonly records: number;
  readonly head: Uint8Array;
  /** Checkpoints stored beside the chain, and those given. */
  readonly checkpoints: number;
  /** Last record that a checkpoint given from elsewhere covers; 0 if none was given. */
  readonly coveredSequence: number;
  /** In order of discovery; at most 100. */
  readonly findings: readonly AuditFinding[];
}

/** A checkpoint that was kept elsewhere. */
export type KeptCheckpoint = Omit<AuditCheckpoint, 'keyId'>;

const MAX_FINDINGS = 100;

/** Verifies a file. Throws only if it can't be read at all. */
export function verifyAuditLog(path: string, kept: readonly KeptCheckpoint[]): AuditVerification {
  using reader = new AuditReader(path);
  const findings = new Findings();
  try {
    return verify(reader, kept, findings);
  } catch (error) {
    if (error instanceof LonglineError) throw error;
    findings.add('damaged', undefined, `the file can't be read further: ${(error as Error).message}`);
    return { ...EMPTY, findings: findings.list };
  }
}

const EMPTY = { chainId: '', records: 0, head: new Uint8Array(), checkpoints: 0, coveredSequence: 0 } as const;

class Findings {
  readonly list: AuditFinding[] = [];

  add(kind: AuditFinding['kind'], sequence: number | undefined, explanation: string): void {
    if (this.list.length < MAX_FINDINGS) this.list.push({ kind, sequence, explanation });
  }
}

function verify(reader: AuditReader, kept: readonly KeptCheckpoint[], findings: Findings): AuditVerification {
  for (const fault of reader.integrityFaults()) findings.add('damaged', undefined, fault);
  for (const fault of reader.schemaFaults()) findings.add('schema', undefined, fault);
  const chain = reader.chain();
  if (chain === undefined) {
    findings.add('schema', undefined, 'the chain id is missing');
    return { ...EMPTY, findings: findings.list };
  }
  const { chainId, publicKey } = chain;
  const own = reader.checkpoints().map((row): KeptCheckpoint => ({ ...row, chainId, publicKey }));
  const expected = new Map<number, string>();
  for (const checkpoint of own) expectHead(checkpoint, 'the checkpoint stored here', expected, findings);
  let coveredSequence = 0;
  for (const checkpoint of kept) {
    if (checkpoint.chainId !== chainId) {
      const explanation = `a kept checkpoint is of chain ${checkpoint.chainId}, and this file is chain ${chainId}`;
      findings.add('replaced', checkpoint.sequence, explanation);
    } else if (!Buffer.from(checkpoint.publicKey).equals(publicKey)) {
      findings.add('replaced', checkpoint.sequence, 'a kept checkpoint was signed with another audit key');
    } else if (expectHead(checkpoint, 'the kept checkpoint', expected, findings)) {
      coveredSequence = Math.max(coveredSequence, checkpoint.sequence);
    }
  }
  const { records, last, head } = walk(reader, chainId, expected, findings);
  const beyond = [...expected.keys()].filter((sequence) => sequence > last).toSorted((left, right) => left - right);
  if (beyond.length > 0) {
    findings.add('truncated', last, `the log ends at record ${last}, but a checkpoint covers record ${beyond.at(-1)}`);
  }
  const checkpoints = own.length + kept.length;
  return { chainId, records, head, checkpoints, coveredSequence, findings: findings.list };
}

/** Notes the head that a checkpoint expects. False if the checkpoint itself is wrong. */
function expectHead(
  checkpoint: KeptCheckpoint,
  name: string,
  expected: Map<number, string>,
  findings: Findings,
): boolean {
  const { sequence } = checkpoint;
  const fault = checkpointFault(checkpoint);
  const head = latin1(checkpoint.head);
  const other = expected.get(sequence);
  if (fault !== undefined) findings.add('checkpoint', sequence, `${name} at record ${sequence} is bad: ${fault}`);
  else if (other !== undefined && other !== head) {
    findings.add('replaced', sequence, `two checkpoints name different heads for record ${sequence}`);
  } else expected.set(sequence, head);
  return fault === undefined;
}

/** Follows the chain. After a fault it goes on from the hash that is stored, so that each fault is told where it is. */
function walk(reader: AuditReader, chainId: string, expected: ReadonlyMap<number, string>, findings: Findings) {
  let previous = latin1(chainStart(chainId));
  let last = 0;
  let records = 0;
  for (const [sequence, row] of reader.linkedRows()) {
    const bytes = Buffer.from(row.buffer, row.byteOffset, row.byteLength);
    const stored = bytes.toString('latin1', 0, HASH_BYTES);
    // The hash covers the hash before, which takes the place of the stored one.
    bytes.write(previous, 0, HASH_BYTES, 'latin1');
    const follows = hash('sha256', bytes, 'binary') === stored;
    if (sequence !== last + 1) {
      const gap = sequence - last - 1;
      findings.add(
        'missing',
        sequence,
        `${gap === 1 ? `record ${last + 1} is` : `records ${last + 1} to ${sequence - 1} are`} missing`,
      );
    } else if (!follows) {
      findings.add(
        'edited',
        sequence,
        `record ${sequence} does not follow from record ${last}: it or its hash was changed`,
      );
    }
    const head = expected.get(sequence);
    if (head !== undefined && head !== stored) {
      findings.add('replaced', sequence, `record ${sequence} is not the one that a checkpoint covers`);
    }
    previous = stored;
    last = sequence;
    records += 1;
  }
  return { records, last, head: records === 0 ? new Uint8Array() : new Uint8Array(Buffer.from(previous, 'latin1')) };
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
