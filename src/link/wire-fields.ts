// Fields of a serialised message as they stand on the wire, for what no generated message can tell. Pure.
import { BinaryReader } from '@bufbuild/protobuf/wire';

/** A field that is a number, or bytes; of other wire types nothing is told. */
export interface WireField {
  readonly number: number;
  readonly bytes: Uint8Array;
  readonly varint: bigint;
}

/** The fields in their order. The bytes are views. Throws if it is no message. */
export function fieldsOf(bytes: Uint8Array): WireField[] {
  const reader = new BinaryReader(bytes);
  const fields: WireField[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (wireType === 2) fields.push({ number, bytes: reader.bytes(), varint: 0n });
    else if (wireType === 0) fields.push({ number, bytes: new Uint8Array(), varint: BigInt(reader.int64()) });
    else reader.skip(wireType, number);
  }
  return fields;
}
