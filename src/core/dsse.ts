// Pre-authentication encoding of DSSE (https://github.com/secure-systems-lab/dsse, protocol v1): the exact bytes that a
// signature covers. The payload type is bound in, so that a signed job can't be passed off as anything else.

const encoder = new TextEncoder();

/** "DSSEv1" SP length(type) SP type SP length(payload) SP payload; lengths are bytes in decimal. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = encoder.encode(payloadType);
  const head = encoder.encode(`DSSEv1 ${type.length} ${payloadType} ${payload.length} `);
  const encoded = new Uint8Array(head.length + payload.length);
  encoded.set(head, 0);
  encoded.set(payload, head.length);
  return encoded;
}
