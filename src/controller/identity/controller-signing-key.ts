// The Ed25519 key with which the controller signs command statements. Agents learn its public half when they enrol.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { LonglineError } from '../../core/errors.ts';
import type { DataDirectory } from './data-directory.ts';

const FILE = 'signing-key.pem';

/** Signs in the controller's name. */
export class ControllerSigningKey {
  /** Name used in Signature.key_id: "controller-" and the first 16 hex characters of the public key's SHA-256. */
  readonly keyId: string;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly #key: KeyObject;

  private constructor(key: KeyObject) {
    this.#key = key;
    const { x } = createPublicKey(key).export({ format: 'jwk' });
    this.publicKey = new Uint8Array(Buffer.from(x!, 'base64url'));
    this.keyId = `controller-${createHash('sha256').update(this.publicKey).digest('hex').slice(0, 16)}`;
  }

  /** Reads the key, or makes it. Throws `policy` if others may read it, `invalid` if the file is damaged. */
  static async open(directory: DataDirectory): Promise<ControllerSigningKey> {
    const stored = await directory.readPrivate(FILE);
    if (stored === undefined) {
      const { privateKey } = generateKeyPairSync('ed25519');
      await directory.writePrivate(FILE, privateKey.export({ format: 'pem', type: 'pkcs8' }));
      return new ControllerSigningKey(privateKey);
    }
    try {
      const key = createPrivateKey(stored);
      if (key.asymmetricKeyType !== 'ed25519') throw new Error(`is a key of type ${key.asymmetricKeyType}`);
      return new ControllerSigningKey(key);
    } catch (error) {
      throw new LonglineError(
        'invalid',
        `${directory.file(FILE)}: can't be read as an Ed25519 key: ${(error as Error).message}; restore it, or remove it and have agents trust the new key`,
        { cause: error },
      );
    }
  }

  /** Signature over exactly these bytes: 64 bytes. */
  sign(bytes: Uint8Array): Uint8Array {
    return new Uint8Array(sign(null, bytes, this.#key));
  }
}
