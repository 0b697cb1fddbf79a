// Trust that comes with enrolment: the keys the controller named in EnrollResponse. Kept apart from the operator's trust
// file, in the agent's data folder, so that an operator can switch it off and let only offline keys command the host.
import { open, rename } from 'node:fs/promises';
import { invalid } from '../../core/errors.ts';
import { CAPABILITY_NAMES } from '../../core/policy/policy.ts';
import { ed25519PublicKeyFault } from '../../core/signing/ed25519-public-key.ts';
import { KEY_ID, KEY_ID_FORM } from '../../core/signing/signing-key.ts';
import { formatTrustEntry } from './trust-entry-text.ts';

/** Name of the file in the agent's data folder. */
export const ENROLLMENT_TRUST_FILE = 'enrollment-trust.toml';

/** What EnrollResponse says of keys. */
export interface ControllerKeys {
  readonly controllerId: string;
  readonly keys: readonly { readonly keyId: string; readonly publicKey: Uint8Array }[];
}

/** Replaces the file whole and durably. Throws `invalid` for keys that can't be trusted; the old file stays. */
export async function writeEnrollmentTrust(path: string, controller: ControllerKeys): Promise<void> {
  const blocks = controller.keys.map((key, position) => {
    const fault = ed25519PublicKeyFault(key.publicKey);
    const field = `controller_keys[${position}]`;
    if (fault !== undefined) throw invalid([{ field: `${field}.public_key`, description: fault }]);
    if (!KEY_ID.test(key.keyId)) {
      const description = `got ${JSON.stringify(key.keyId.slice(0, 200))}; must be ${KEY_ID_FORM}`;
      throw invalid([{ field: `${field}.key_id`, description }]);
    }
    return formatTrustEntry({
      keyId: key.keyId,
      publicKey: key.publicKey,
      secretFile: undefined,
      controllers: [controller.controllerId],
      capabilities: CAPABILITY_NAMES,
      selectors: [],
      scopes: [],
      notAfterMs: undefined,
    });
  });
  const text = `# Written by the agent at enrolment. Switch it off with enrollment_trust = false.\n\n${blocks.join('\n')}`;
  const fresh = `${path}.new`;
  await using file = await open(fresh, 'w', 0o600);
  await file.writeFile(text);
  await file.sync();
  await rename(fresh, path);
}
