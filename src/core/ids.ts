// Identifiers. UUIDv7 (RFC 9562) so that ids sort by time of creation; nothing secret is derived from them.
import { randomFillSync } from 'node:crypto';

const scratch = new Uint8Array(16);
let lastMs = 0;
let counter = 0;

/** A new UUIDv7. Ids made by one process grow strictly, also within a millisecond (RFC 9562, method 1). */
export function newId(nowMs: number = Date.now()): string {
  if (nowMs > lastMs) {
    lastMs = nowMs;
    counter = 0;
  } else if (++counter > 0xfff) {
    lastMs += 1;
    counter = 0;
  }
  randomFillSync(scratch);
  const ms = lastMs;
  scratch[0] = (ms / 2 ** 40) & 0xff;
  scratch[1] = (ms / 2 ** 32) & 0xff;
  scratch[2] = (ms / 2 ** 24) & 0xff;
  scratch[3] = (ms / 2 ** 16) & 0xff;
  scratch[4] = (ms / 2 ** 8) & 0xff;
  scratch[5] = ms & 0xff;
  scratch[6] = 0x70 | (counter >> 8);
  scratch[7] = counter & 0xff;
  scratch[8] = 0x80 | (scratch[8]! & 0x3f);
  const hex = Buffer.from(scratch).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** A new UUIDv7 that comes after another one, although its time may lie ahead: a clock was put back, or is another one's. */
export function newIdAfter(id: string, nowMs: number): string {
  const aheadMs = Number.parseInt(id.replace('-', '').slice(0, 12), 16);
  return newId(Number.isNaN(aheadMs) ? nowMs : Math.max(nowMs, aheadMs + 1));
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** True for a UUID in its canonical lower-case form. */
export function isUuid(value: string): boolean {
  return UUID.test(value);
}

/** Form of an agent id, as EnrollRequest.agent_id documents it. */
export const AGENT_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** Form of a session id and of a template's name. */
export const SESSION_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
