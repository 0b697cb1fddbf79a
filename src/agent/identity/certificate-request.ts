// Makes the key that never leaves the host, and the request for a certificate over it. The request is put together here,
// in the few lines of DER that it takes: the X.509 library would stay in memory for the rest of an agent's life.
import { generateKeyPairSync, sign } from 'node:crypto';

/** A new ECDSA P-256 key (PKCS#8, PEM) and a PKCS#10 request (DER) that proves its possession. */
export interface KeyAndRequest {
  readonly privateKey: string;
  readonly request: Uint8Array;
}

const SEQUENCE = 0x30;
const SET = 0x31;
/** Object identifiers, encoded (RFC 5280 and RFC 5758): commonName, ecdsa-with-SHA256. */
const COMMON_NAME = Buffer.from('0603550403', 'hex');
const ECDSA_WITH_SHA256 = Buffer.from('06082a8648ce3d040302', 'hex');

/** Makes a key and a certificate request (RFC 2986) with the agent id as common name. */
export function makeKeyAndRequest(agentId: string): KeyAndRequest {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const version = der(0x02, Buffer.of(0));
  const subject = der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, der(0x0c, Buffer.from(agentId)))));
  const noAttributes = der(0xa0);
  const info = der(SEQUENCE, version, subject, publicKey.export({ type: 'spki', format: 'der' }), noAttributes);
  const signature = sign('sha256', info, privateKey);
  const unusedBits = Buffer.of(0);
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    request: der(SEQUENCE, info, der(SEQUENCE, ECDSA_WITH_SHA256), der(0x03, unusedBits, signature)),
  };
}

/** One DER value: tag, definite length, content. */
function der(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  if (body.length < 0x80) return Buffer.concat([Buffer.of(tag, body.length), body]);
  const digits = body.length.toString(16);
  const length = Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
  return Buffer.concat([Buffer.of(tag, 0x80 | length.length), length, body]);
}

/** DER as PEM. */
export function pem(label: string, bytes: Uint8Array): string {
  const lines =
    Buffer.from(bytes)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
