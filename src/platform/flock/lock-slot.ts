// What a lock file says: fixed-size lines of text, each with a checksum, of which the one with the highest epoch counts.
import { crc32 } from 'node:zlib';

/** Bytes of one slot; small enough that disks write it as a whole. */
export const SLOT_BYTES = 512;

/** One hold. */
export interface LockSlot {
  readonly epoch: bigint;
  readonly agentId: string;
  readonly holder: string;
}

/** A slot as bytes. Holder and agent id are cut to what has room. */
export function encodeSlot({ epoch, agentId, holder }: LockSlot): Buffer {
  const text = JSON.stringify({ epoch: String(epoch), agent: agentId.slice(0, 128), holder: holder.slice(0, 200) });
  const line = `${crc32(text).toString(16).padStart(8, '0')} ${text}`;
  const bytes = Buffer.alloc(SLOT_BYTES, ' ');
  bytes.write(line, 0, SLOT_BYTES - 1);
  bytes[SLOT_BYTES - 1] = 0x0a;
  return bytes;
}

/** The slot with the highest epoch among those that are whole; undefined if none is. */
export function newestSlot(bytes: Buffer): (LockSlot & { readonly slot: number }) | undefined {
  let newest: (LockSlot & { readonly slot: number }) | undefined;
  for (let slot = 0; slot * SLOT_BYTES < bytes.length; slot++) {
    const found = decodeSlot(bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES));
    if (found !== undefined && (newest === undefined || found.epoch > newest.epoch)) newest = { ...found, slot };
  }
  return newest;
}

function decodeSlot(bytes: Buffer): LockSlot | undefined {
  const line = bytes.toString().trimEnd();
  const [sum, text] = [line.slice(0, 8), line.slice(9)];
  if (crc32(text).toString(16).padStart(8, '0') !== sum) return undefined;
  try {
    const { epoch, agent, holder } = JSON.parse(text) as Record<string, unknown>;
    if (typeof epoch !== 'string' || !/^[0-9]{1,20}$/.test(epoch)) return undefined;
    if (typeof agent !== 'string' || typeof holder !== 'string') return undefined;
    return { epoch: BigInt(epoch), agentId: agent, holder };
  } catch {
    return undefined;
  }
}
