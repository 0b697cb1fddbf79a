// Audit checkpoints that were kept elsewhere: by the controller, or in a file written by `audit checkpoints --json`.
import { readFile } from 'node:fs/promises';
import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Command } from 'commander';
import { type StoredAuditCheckpoint, StoredAuditCheckpointSchema } from '#gen/longline/fleet/v1/agent_service_pb.js';
import type { KeptCheckpoint } from '../../agent/audit/verification.ts';
import { LonglineError } from '../../core/errors.ts';
import { withFleet } from '../fleet-connection.ts';
import type { CliIo } from '../io.ts';
import { readPages } from '../paging.ts';

/** All checkpoints that the controller holds of an agent, newest first. */
export async function fetchCheckpoints(
  io: CliIo,
  command: Command,
  agentId: string,
  limit = 0,
): Promise<readonly StoredAuditCheckpoint[]> {
  return await withFleet(io, command, (fleet) =>
    readPages(limit, async (pageToken, pageSize) => {
      const page = await fleet.agents.listAuditCheckpoints({ agentId, pageToken, pageSize });
      return { items: page.checkpoints, nextPageToken: page.nextPageToken };
    }),
  );
}

/** Reads a file: a JSON array of longline.fleet.v1.StoredAuditCheckpoint. Throws `invalid` with the element. */
export async function readCheckpointFile(path: string): Promise<readonly StoredAuditCheckpoint[]> {
  let values: unknown;
  try {
    values = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new LonglineError('invalid', `--checkpoints: can't read ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (!Array.isArray(values)) {
    throw new LonglineError(
      'invalid',
      `--checkpoints: ${path} is no JSON array, as \`audit checkpoints --json\` writes`,
    );
  }
  return values.map((value: JsonValue, index) => {
    try {
      return fromJson(StoredAuditCheckpointSchema, value);
    } catch (error) {
      const message = `--checkpoints: ${path}, element ${index}: ${(error as Error).message}`;
      throw new LonglineError('invalid', message, { cause: error });
    }
  });
}

/** As verification takes them. */
export function keptCheckpoint(stored: StoredAuditCheckpoint): KeptCheckpoint {
  return {
    chainId: stored.chainId,
    sequence: Number(stored.sequence),
    head: stored.head,
    timeMs: stored.time === undefined ? 0 : timestampMs(stored.time),
    payload: stored.payload,
    signature: stored.signature,
    publicKey: stored.publicKey,
  };
}
