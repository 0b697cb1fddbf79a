// Who a controller is, as kept in its data directory: id, CA, signing key, server certificate. Made on the first start.
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { isUuid } from '../../core/ids.ts';
import { CertificateAuthority } from './certificate-authority.ts';
import { ControllerSigningKey } from './controller-signing-key.ts';
import type { DataDirectory } from './data-directory.ts';
import { ServerCertificate } from './server-certificate.ts';

const ID_FILE = 'controller-id';

/** Identity of one controller. */
export interface ControllerIdentity {
  /** UUID; in certificates, and in Statement.controller_id. */
  readonly controllerId: string;
  readonly authority: CertificateAuthority;
  readonly signingKey: ControllerSigningKey;
  readonly serverCertificate: ServerCertificate;
}

/** Opens the identity. `hosts` are the names and addresses the server certificate must be good for. */
export async function openControllerIdentity(
  directory: DataDirectory,
  hosts: readonly string[],
  clock: Clock,
): Promise<ControllerIdentity> {
  const controllerId = await openControllerId(directory);
  const authority = await CertificateAuthority.open(directory, controllerId, clock);
  const signingKey = await ControllerSigningKey.open(directory);
  const serverCertificate = new ServerCertificate({ directory, authority, hosts, clock });
  await serverCertificate.current();
  return { controllerId, authority, signingKey, serverCertificate };
}

async function openControllerId(directory: DataDirectory): Promise<string> {
  const stored = (await directory.readPrivate(ID_FILE))?.toString().trim();
  if (stored === undefined) {
    const id = randomUUID();
    await directory.writePrivate(ID_FILE, `${id}\n`);
    return id;
  }
  if (isUuid(stored)) return stored;
  throw new LonglineError(
    'invalid',
    `${directory.file(ID_FILE)}: holds ${JSON.stringify(stored.slice(0, 60))}, which is no UUID; restore it. Agents know the controller by it`,
  );
}
