// What a controller says beside the message of a refusal: google.rpc details in `grpc-status-details-bin`, read without the
// messages that it is made of, which nothing else here needs. A peer's malformed details are as good as none.
import type { Metadata } from '@grpc/grpc-js';
import { fieldsOf, type WireField } from './wire-fields.ts';

/** Details that mean something here. */
export interface StatusDetails {
  /** From RetryInfo. */
  readonly retryAfterMs?: number;
  /** From ErrorInfo: see ErrorDetail.newestEpoch. */
  readonly newestEpoch?: bigint;
}

const MAX_UINT64 = 2n ** 64n - 1n;

/** The details of a call's end. */
export function statusDetails(metadata: Metadata | undefined): StatusDetails {
  const [bytes] = metadata?.get('grpc-status-details-bin') ?? [];
  if (!Buffer.isBuffer(bytes)) return {};
  try {
    const details = fieldsOf(bytes).filter(({ number }) => number === 3);
    return Object.assign({}, ...details.map((detail) => detailOf(fieldsOf(detail.bytes))));
  } catch {
    return {};
  }
}

/** Of a google.protobuf.Any. */
function detailOf(any: readonly WireField[]): StatusDetails {
  const type = textOf(any, 1);
  const value = any.find(({ number }) => number === 2);
  if (value === undefined) return {};
  if (type.endsWith('/google.rpc.RetryInfo')) return retryInfo(fieldsOf(value.bytes));
  return type.endsWith('/google.rpc.ErrorInfo') ? errorInfo(fieldsOf(value.bytes)) : {};
}

function retryInfo(info: readonly WireField[]): StatusDetails {
  const delay = info.find(({ number }) => number === 1);
  if (delay === undefined) return {};
  const parts = fieldsOf(delay.bytes);
  const part = (number: number) => Number(parts.find((field) => field.number === number)?.varint ?? 0);
  return { retryAfterMs: part(1) * 1000 + part(2) / 1e6 };
}

function errorInfo(info: readonly WireField[]): StatusDetails {
  if (textOf(info, 2) !== 'longline') return {};
  for (const entry of info.filter(({ number }) => number === 3)) {
    const pair = fieldsOf(entry.bytes);
    const value = textOf(pair, 2);
    if (textOf(pair, 1) !== 'newest_epoch' || !/^[0-9]{1,20}$/.test(value)) continue;
    const newestEpoch = BigInt(value);
    return newestEpoch > MAX_UINT64 ? {} : { newestEpoch };
  }
  return {};
}

function textOf(fields: readonly WireField[], number: number): string {
  return Buffer.from(fields.find((field) => field.number === number)?.bytes ?? []).toString();
}
